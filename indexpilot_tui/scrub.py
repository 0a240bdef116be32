"""Texts that may hold a secret, made fit to be shown. Everything that reaches an operator passes here: every error does when
it is made, and the configuration where it is shown.

What is looked for is the shape of a secret (a URI with a password, `password=...`), since a password can stand anywhere: in
the wrong section, as the name of a target, in a variable that was meant for something else.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "…"
_WORDS = r"passw|passphrase|pwd|secret|token|credential|api_?key|private_?key|client_?key|server_?key"
_SECRET_KEY = re.compile(rf"(?:{_WORDS}|^pass$)", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:/{1,2}"  # a URI that was taken for a path has lost one of its slashes
# a quoted text is one piece, since a password may hold blanks; a bare one ends at a blank
_QUOTED_URI = re.compile(rf"(?P<quote>['\"])(?P<uri>{_URI}.*?)(?P=quote)", re.DOTALL)
_BARE_URI = re.compile(rf"{_URI}[^\s'\"]+")
_SCHEME = re.compile(_URI)
_PAIR = re.compile(
    rf"(?P<key>\b[\w.-]*(?:{_WORDS})\w*|\bpass)(?P<equals>\s*=\s*)(?P<value>'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s&'\"]+)",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<![\w/])[^\s:/@'\"=]+:[^\s@/'\"]+@(?=[\w.\[-])")
_HOST = re.compile(r"[A-Za-z0-9_.,:%~-]*|\[[0-9A-Fa-f:.]+\](:\d+)?")
_IN_QUERY = re.compile(rf"[?&][\w.-]*(?:{_WORDS}|pass)\w*=", re.IGNORECASE)


def secret_like(key: str) -> bool:
    """Whether a key's name says that its value is a secret, or tells where one comes from."""
    return any(_SECRET_KEY.search(part) for part in key.split("."))


def uri_host(uri: str) -> str:
    """`scheme://HOST` of a URI: what may be told of one that holds a password. HOST is hidden when it cannot be told from
    the password for certain."""
    scheme, rest = _split(uri)
    if "@" in rest:
        rest = rest.rpartition("@")[2]
    elif re.match(r"[^/?#\[]*:(?!\d{1,5}(?:[/?#,]|$))", rest):
        return f"{scheme}://{HIDDEN}"  # user:password that was cut off before its @
    host = re.split(r"[/?#\s]", rest, maxsplit=1)[0]
    return f"{scheme}://{host if _HOST.fullmatch(host) else HIDDEN}"


def _split(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition(":/")
    return scheme, rest.removeprefix("/")


def _holds_password(uri: str) -> bool:
    _, rest = _split(uri)
    login, at, _ = rest.rpartition("@")
    cut_off = not at and re.match(r"[^/?#\[]*:(?!\d{1,5}(?:[/?#,]|$))", rest) is not None
    return (bool(at) and ":" in login) or cut_off or _IN_QUERY.search(rest) is not None


def scrubbed(text: str) -> str:
    """`text` with its secrets hidden: of a URI with a password only the host stays, of `password=x` the key."""
    if ":/" in text:
        text = _QUOTED_URI.sub(_quoted, text)
        text = _BARE_URI.sub(lambda m: uri_host(m[0]) if _holds_password(m[0]) else m[0], text)
    if "=" in text:
        text = _PAIR.sub(lambda m: f"{m['key']}{m['equals']}{HIDDEN}", text)
    if "@" in text:
        text = _LOGIN.sub(f"{HIDDEN}@", text)
    return text


def _quoted(match: re.Match[str]) -> str:
    uri, quote = match["uri"], match["quote"]
    return f"{quote}{uri_host(uri)}{quote}" if _holds_password(uri) else match[0]


def shown_value(key: str, value: Any) -> str | None:
    """A configured value as it may be printed; None: nothing of it. Of a command only its program, of a URI its host where
    it holds a password; of what a secret-like key holds nothing but the name of a variable."""
    if isinstance(value, dict):
        return None
    last = key.rpartition(".")[2]
    if last.endswith("_env") and isinstance(value, str) and _VARIABLE.fullmatch(value):
        return repr(value)
    if isinstance(value, list | tuple):
        return _shown_list(key, value)
    if secret_like(key) and value is not None:
        return None
    if isinstance(value, str) and _SCHEME.match(value) and _holds_password(value):
        return repr(uri_host(value))
    return scrubbed(repr(value))


def _shown_list(key: str, value: list[Any] | tuple[Any, ...]) -> str | None:
    if not (key.endswith("command") or secret_like(key)):
        return scrubbed(repr(value))
    if not value or not key.endswith("command"):
        return "()" if not value else None
    more = len(value) - 1
    rest = f" and {more} argument{'s' if more != 1 else ''}" if more else ""
    return f"{scrubbed(str(value[0]))}{rest}"
