"""Predicates of partial indexes: which is certainly implied by which. Pure; in doubt the answer is no.

A predicate comes as PostgreSQL writes it (`pg_get_expr`): each part of an AND in parentheses of its own. So equal parts
have equal texts, and only a few forms need to be understood beyond that.
"""

from __future__ import annotations

import re
from functools import lru_cache

_NOT_NULL = re.compile(r"^(?P<what>.+) IS NOT NULL$", re.DOTALL)
# column, comparison, number: what follows from what is plain arithmetic (integers only: no type changes their order)
_NUMBER = re.compile(r"^(?P<what>[a-z_][a-z0-9_$]*|\"(?:[^\"]|\"\")+\") (?P<op><=|>=|<|>|=) (?P<value>-?\d{1,18})$")
_STRICT = re.compile(r"^(?P<what>[a-z_][a-z0-9_$]*|\"(?:[^\"]|\"\")+\") (?:<=|>=|<|>|=|<>) .+$", re.DOTALL)


@lru_cache(maxsize=4096)
def parts(predicate: str) -> frozenset[str] | None:
    """The parts of an AND, without the parentheses around each; None when the text is not read with certainty."""
    text = _unwrapped(predicate.strip())
    if text is None:
        return None
    pieces = _split(text, " AND ")
    if pieces is None:
        return None
    if len(pieces) > 1 and _split(text, " OR ") != [text]:
        return None  # a mix at one level would need precedence
    found: set[str] = set()
    for piece in pieces:
        inner = _unwrapped(piece.strip())
        if inner is None:
            return None
        if len(pieces) > 1 and inner != piece.strip() and len(_split(inner, " AND ") or []) > 1:
            nested = parts(inner)
            if nested is None:
                return None
            found |= nested
        else:
            found.add(inner)
    return frozenset(found)


def implies(stronger: str, weaker: str) -> bool:
    """Whether every row of an index with the predicate `stronger` is certainly in one with the predicate `weaker`.

    An empty predicate is true of every row.
    """
    if not weaker or stronger == weaker:
        return True
    if not stronger:
        return False
    have, want = parts(stronger), parts(weaker)
    if have is None or want is None:
        return False
    return all(any(part == given or _follows(given, part) for given in have) for part in want)


def same(a: str, b: str) -> bool:
    """Whether two predicates hold for the same rows, as far as that is certain."""
    return a == b or (bool(a) == bool(b) and implies(a, b) and implies(b, a))


def _follows(given: str, wanted: str) -> bool:
    """One part from one other."""
    null = _NOT_NULL.match(wanted)
    if null:  # a comparison with an operator of these is true of no null
        strict = _STRICT.match(given)
        return strict is not None and strict["what"] == null["what"] and not given.endswith(" IS NULL")
    a, b = _NUMBER.match(given), _NUMBER.match(wanted)
    if not a or not b or a["what"] != b["what"]:
        return False
    x, y = int(a["value"]), int(b["value"])
    match (a["op"], b["op"]):
        case (">", ">") | (">=", ">=") | (">", ">="):
            return x >= y
        case (">=", ">"):
            return x > y
        case ("<", "<") | ("<=", "<=") | ("<", "<="):
            return x <= y
        case ("<=", "<"):
            return x < y
        case ("=", op):
            return {">": x > y, ">=": x >= y, "<": x < y, "<=": x <= y, "=": x == y}[op]
        case _:
            return False


def _unwrapped(text: str) -> str | None:
    """Without parentheses around the whole; None when they do not match up."""
    while text.startswith("(") and (end := _closing(text)) is not None and end == len(text) - 1:
        text = text[1:-1].strip()
    return None if _closing("(" + text + ")") != len(text) + 1 else text


def _closing(text: str) -> int | None:
    """Where the parenthesis that opens the text is closed, strings and quoted names left alone."""
    depth = 0
    quote = ""
    for place, char in enumerate(text):
        if quote:
            if char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return place
    return None


def _split(text: str, word: str) -> list[str] | None:
    """At a word that stands outside parentheses and quotes; None where they do not match up."""
    depth = 0
    quote = ""
    pieces: list[str] = []
    start = place = 0
    while place < len(text):
        char = text[place]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and text.startswith(word, place):
            pieces.append(text[start:place])
            place += len(word)
            start = place
            continue
        place += 1
    return None if depth or quote else [*pieces, text[start:]]
