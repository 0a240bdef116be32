"""A statement in one line: what cannot be shown of it is left out where it says least, in the list of columns."""

from __future__ import annotations

import re
from functools import lru_cache

from indexpilot_tui.tui.lines import elide, flat

_LOOK_AT = 20_000  # characters; a statement that is longer is cut as it stands
_COMMENT = re.compile(r"\s*(?:/\*.*?\*/|--[^\n]*\n)\s*", re.DOTALL)
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()]|\w+""")


def in_one_line(text: str, width: int) -> str:
    """`text` in at most `width` cells. Where it is too long, comments in front go first, then the list of a SELECT: the
    table and the conditions are what one statement is known by. The whole text is on the statement's own screen."""
    whole = flat(text)
    if len(whole) <= width:
        return elide(whole, width)
    return elide(_abridged(whole[:_LOOK_AT]), width)


@lru_cache(maxsize=2048)
def _abridged(text: str) -> str:
    while found := _COMMENT.match(text):
        text = text[found.end() :]
    if text[:6].lower() != "select":
        return text
    depth = 0
    for token in _TOKEN.finditer(text, 6):
        word = token[0].lower()
        depth += (word == "(") - (word == ")")
        if depth == 0 and word == "from":
            return f"{text[:6]} … {text[token.start() :]}"
    return text
