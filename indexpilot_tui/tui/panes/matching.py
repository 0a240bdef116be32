"""The filter of a pane: a regular expression, `!` in front turns it round."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Filter:
    """Case does not matter. A pattern that is no regular expression is searched for as it stands, and `fault` says so."""

    text: str = ""

    def accepts(self, *values: str) -> bool:
        """True when one of the values matches (with `!`: when none does)."""
        pattern, inverse, _ = _compiled(self.text)
        if pattern is None:
            return True
        return any(pattern.search(value) for value in values) is not inverse

    @property
    def fault(self) -> str:
        return _compiled(self.text)[2]


@lru_cache(maxsize=64)
def _compiled(text: str) -> tuple[re.Pattern[str] | None, bool, str]:
    inverse = text.startswith("!")
    body = text[1:] if inverse else text
    if not body:
        return None, False, ""
    try:
        return re.compile(body, re.IGNORECASE), inverse, ""
    except re.error as exc:
        return re.compile(re.escape(body), re.IGNORECASE), inverse, f"not a regular expression ({exc}); searched as text"
