"""What every gate and guard answers with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """pass: go. wait: not now, later by itself. block: not without somebody's action. unknown: not read, so it blocks."""

    PASS = "pass"  # noqa: S105 - an answer, not a password
    WAIT = "wait"
    BLOCK = "block"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A safeguard's answer.

    `measured` and `limit` are text with their unit; `setting` is the dotted key that holds the limit (empty: no setting,
    it cannot be changed); `evidence` is one sentence for a person; `since` is when the status last changed; `retry_at`
    is when it may pass, where that is known.
    """

    guard: str
    status: Status
    measured: str
    limit: str
    setting: str
    evidence: str
    since: datetime | None = None
    retry_at: datetime | None = None

    @property
    def allows(self) -> bool:
        return self.status is Status.PASS
