"""The one place where text from a server is made safe to show, log and export.

PostgreSQL stores any character but NUL in names and query texts; a terminal obeys some of them (title, clipboard,
clear screen) and a reader is deceived by others (bidirectional overrides, zero-width joiners).
"""

from __future__ import annotations

import re

# C0 without \t and \n, DEL, C1, soft hyphen, zero-width and bidi controls, line/paragraph separators,
# invisible operators, BOM, lone surrogates, tag characters, and what else Unicode calls a format character.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a]"
)


# What ALTER ROLE, CREATE USER MAPPING, CREATE SUBSCRIPTION and dblink carry in clear, and the server keeps in its views. A
# text that the server cut off may end within the literal.
_PASSWORD = re.compile(
    r"""(?<![\w$])(?P<word>\w{0,60}(?:password|passwd|client_secret)["']?\s*(?:=>?|:=|,)?\s*)
        (?: (?P<inner>''[^']+'') | (?P<quote>(?:e|u&|b|n)?'(?:[^'\\]|\\.|'')*(?:'|\Z))
          | (?P<dollar>\$(?P<tag>[a-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)) | (?P<bare>(?<==)[^\s'"();]+) )
      | (?P<url>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://[^\s/:@']{0,200}:)[^\s/@']+(?=@)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_HIDDEN = "***"


def _hide(match: re.Match[str]) -> str:
    if match["url"]:
        return match["url"] + _HIDDEN
    if match["bare"] or match["inner"]:
        # `password = expression` is SQL; within a literal it is a connection string
        within = match.string.count("'", 0, match.start()) % 2
        return match["word"] + _HIDDEN if within else match[0]
    if match["word"][-1] in "dDtT" and match.string[match.start() - 1 : match.start()] == (match["quote"] or "")[:1] == "'":
        return match[0]  # the word is a literal itself, and this is its end
    return f"{match['word']}'{_HIDDEN}'"


def without_passwords(text: str) -> str:
    """The text of a statement or an answer, without the passwords that stand in it as literals."""
    lower = text.lower()
    if not any(word in lower for word in ("passw", "client_secret", "://")):
        return text
    return _PASSWORD.sub(_hide, text)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures block: U+241B is a visible ESC
    if code == 0x7F:
        return "\u2421"
    return f"<U+{code:04X}>"


def clean(text: str, limit: int = 100_000) -> str:
    """Make server text harmless: control, bidi and zero-width characters become visible marks; tabs and newlines stay.
    Passwords that stand in it as literals are hidden.

    Text longer than `limit` characters is cut, and says so.
    """
    cut = len(text) - limit
    text = without_passwords(text[:limit])
    if cut > 0:
        text += f"… ({cut} more characters)"
    return _HOSTILE.sub(_mark, text)


def clean_line(text: str, limit: int = 4_000) -> str:
    """`clean`, on one line: every run of white space becomes one space."""
    return " ".join(clean(text, limit).split())
