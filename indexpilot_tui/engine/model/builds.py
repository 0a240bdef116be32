"""What earlier builds of indexes on a target took, as the journal has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeasuredBuild:
    """One index that was built, or built anew, and proven by the catalog.

    `seconds` is the statement's time without what it waited for other transactions (`waited_s`); `rows` are the index's,
    None: not known. `wal_bytes` and `temp_bytes` are what the server's own counters gave this one statement, None where
    they could not be read. `age_s`: it ended so long ago.
    """

    change_id: int
    index: str  # cleaned
    method: str
    seconds: float
    waited_s: float
    age_s: float
    index_bytes: int
    heap_bytes: int
    rows: float | None
    wal_bytes: int | None
    temp_bytes: int | None
    partial: bool
