"""What hangs on an index that somebody wants to drop: its blast radius. Texts are cleaned; sizes bytes, times seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A statement whose plan is another one without the index. `now` and `then` are the scans that differ. `constants`: the
    generic plan stays, the plan with these constants in place of the parameters does not."""

    queryid: str
    query: str
    calls: float
    cost_before: float
    cost_after: float
    now: tuple[str, ...]
    then: tuple[str, ...]
    constants: str = ""


@dataclass(frozen=True, slots=True)
class ServedKey:
    """A foreign key of the table whose rows are found by this index alone: without it each DELETE on `parent`, and each
    UPDATE of its key, reads the whole table. The counts are since the statistics were reset; None: not known."""

    name: str
    parent: str
    on_delete: str
    parent_deleted: int | None
    parent_updated: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Scans of the index on the node that was asked, since `since` (ISO 8601, None: not known), `window_s` seconds long.
    `last_scan` from PostgreSQL 16 on."""

    scans: int | None
    since: str | None
    window_s: float | None
    last_scan: str | None


@dataclass(frozen=True, slots=True)
class Standbys:
    """Scans on standbys are counted there alone. `status`: none_connected | unknown; `known` how many there are."""

    status: str
    known: int
    detail: str


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What it takes to have the index back: CREATE INDEX CONCURRENTLY without waiting for others."""

    size_bytes: int
    build_seconds: tuple[float, float]
    wal_bytes: int
    temp_bytes: int
    basis: str = ""


@dataclass(frozen=True, slots=True)
class DropForecast:
    """`level` is the worst that was found:

    refused   PostgreSQL refuses the statement (`refused` says why)
    breaks    something stops working (`breaks`)
    slower    plans, or checks of foreign keys, get dearer
    unknown   nothing of these was found, but not everything could be looked at (`unknown`)
    none      nothing was found, and everything was looked at
    """

    level: str
    refused: tuple[str, ...]
    breaks: tuple[str, ...]
    plans: tuple[PlanChange, ...]
    served_keys: tuple[ServedKey, ...]
    on_conflict: tuple[str, ...]  # queryids
    constraint: str | None
    referenced_by: tuple[str, ...]
    replica_identity: bool
    clustered: bool
    partition_of: str | None
    usage: Usage
    standbys: Standbys
    rebuild: Rebuild | None  # None: the index is INVALID, or not in the shadow
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
