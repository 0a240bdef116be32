"""One raw signal of a server, with its limit, its age and its past; what could not be read has a reason and no value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

OLD_S = 120.0  # what was read longer ago says nothing of now, unless it is not read more often


class Standing(StrEnum):
    """`plain`: measured, and no limit is set. Only `within` may be shown as good."""

    WITHIN = "within"
    OVER = "over"
    PLAIN = "plain"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Gauge:
    """`unit` is one of "", /s, s, ms, ms/s, B, B/s, %. `at`: when it was read, by the target's clock. `words` stand in
    place of a number where the signal is none; `why` it is not known, with the GRANT or the setting that would change
    that. `least`: the limit is a floor; `bad`: it is not as it should be, whatever the limit."""

    key: str
    group: str
    name: str
    value: float | None = None
    unit: str = ""
    limit: float | None = None
    setting: str = ""
    at: datetime | None = None
    why: str = ""
    evidence: str = ""
    words: str = ""
    least: bool = False
    bad: bool = False
    old_after_s: float = OLD_S
    trend: tuple[float, ...] = ()

    def standing(self, age_s: float | None) -> Standing:
        """Where it stands, when it is so old (None: nobody knows)."""
        if self.why or (self.value is None and not self.words) or age_s is None or age_s > self.old_after_s:
            return Standing.UNKNOWN
        if self.bad:
            return Standing.OVER
        if self.limit is None or self.value is None:
            return Standing.PLAIN
        over = self.value < self.limit if self.least else self.value > self.limit
        return Standing.OVER if over else Standing.WITHIN
