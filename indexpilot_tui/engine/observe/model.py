"""The frozen results of looking at a target. Times are timezone-aware and from the target's clock unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.book import Book
    from indexpilot_tui.engine.observe.signals import Signals


class Group(StrEnum):
    """By what the hotspots are added up."""

    QUERY = "query"
    TABLE = "table"
    USER = "user"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class View:
    """What of the hotspots is looked at. `window_s`: of so many seconds up to now (0: of the last reading); `since_mark`:
    of all since the mark, whatever `window_s` says."""

    window_s: float = 0.0
    since_mark: bool = False
    group: Group = Group.QUERY


@dataclass(frozen=True, slots=True)
class Hotspot:
    """One statement (or one user) over a window: rates, never lifetime averages. None is not measured.

    `calls_per_s`, `ms_per_s` (execution ms per second of wall time), `mean_ms`, `rows_per_call` and `stddev_ms` of the calls
    in the window, `share` (0..1 of the execution time of all statements in it), `hit_ratio` (0..1, None when no block was
    touched), `read_ms_per_s` and `write_ms_per_s` (time spent on blocks, where the server times them), `plan_ms_per_s`,
    `trend` (ms_per_s of the last intervals, oldest first), `waits` (what it waited for in the last minute, sampled, with
    the share; the empty name is a CPU). `joined`: it has come into the top since the mark; `before_ms_per_s`: what it took
    before the mark.
    """

    queryid: int
    query: str  # cleaned, one line
    user: str
    calls_per_s: float | None
    ms_per_s: float
    mean_ms: float | None
    rows_per_call: float | None
    share: float
    hit_ratio: float | None
    temp_blocks_per_s: float
    wal_bytes_per_s: float
    trend: tuple[float, ...] = ()
    stddev_ms: float | None = None
    read_blocks_per_s: float | None = None
    written_blocks_per_s: float | None = None
    read_ms_per_s: float | None = None
    write_ms_per_s: float | None = None
    plan_ms_per_s: float | None = None
    first_seen: datetime | None = None  # None: it was there when this console began to look
    last_seen: datetime | None = None
    waits: tuple[tuple[str, float], ...] = ()
    joined: bool = False
    before_ms_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class TableSpot:
    """One table over a window: what was read and written in it, and the share of the execution time of the statements that
    name it (one that names two tables counts for both, so shares may add up to more than 1; None: no text names it)."""

    oid: int
    name: str  # cleaned schema.name
    share: float | None
    blocks_per_s: float
    hit_ratio: float | None
    seq_scans_per_s: float
    seq_rows_per_s: float
    inserted_per_s: float
    updated_per_s: float
    deleted_per_s: float
    hot_ratio: float | None


@dataclass(frozen=True, slots=True)
class DatabaseSpot:
    """One database of the server over a window. `active_ms_per_s`: time that its sessions were at work (14 on)."""

    oid: int
    name: str  # cleaned
    share: float | None
    active_ms_per_s: float | None
    xacts_per_s: float
    hit_ratio: float | None
    read_blocks_per_s: float
    rows_per_s: float
    temp_bytes_per_s: float
    sessions: int


@dataclass(frozen=True, slots=True)
class Hotspots:
    """All hotspots of a window. `interval_s`: the seconds that were really watched. `window_note` says why that is less than
    what was asked for. `epoch_note` tells of a reset, eviction, restart or failover that began a new epoch; `available` is
    False, with the reason and the remedy in `unavailable`, where pg_stat_statements cannot be read; `items` then are
    `sampled` from pg_stat_activity: times are estimates, and calls cannot be told."""

    items: tuple[Hotspot, ...]
    interval_s: float
    total_ms_per_s: float
    statements_seen: int
    hidden: int  # rows that read <insufficient privilege>
    epoch_started: datetime | None
    epoch_note: str = ""
    available: bool = True
    unavailable: str = ""
    read_at: datetime | None = None  # the end of the interval, by the target's clock: it is shown until the next is read
    view: View = View()
    window_note: str = ""
    mark: datetime | None = None
    sampled: bool = False
    tables: tuple[TableSpot, ...] = ()
    databases: tuple[DatabaseSpot, ...] = ()

    @property
    def joined(self) -> int:
        """How many have come into the top since the mark."""
        return sum(1 for item in self.items if item.joined)


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One interval. `mean_ms` is 0.0 where `calls_per_s` is: there was no call, so there is no mean to draw."""

    at: datetime
    calls_per_s: float
    mean_ms: float
    ms_per_s: float


@dataclass(frozen=True, slots=True)
class QueryDetail:
    """One statement with its history of this session (one point an interval, oldest first) and its totals of the epoch."""

    queryid: int
    query: str  # cleaned, original line breaks kept
    raw_query: str  # as the server gave it: to execute or copy, never to show
    user: str
    calls: int
    total_ms: float
    mean_ms: float
    stddev_ms: float
    rows: int
    history: tuple[HistoryPoint, ...] = ()


class FindingKind(StrEnum):
    INVALID = "invalid"
    BUILDING = "building"
    DUPLICATE = "duplicate"
    LEFT_PREFIX = "left_prefix"
    COVERED = "covered"
    REPEATED_CONSTRAINT = "repeated_constraint"
    UNUSED = "unused"
    BLOATED = "bloated"
    MISSING_FK = "missing_fk"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """Something about an index (or the lack of one) that deserves a look, with evidence, risk and the DDL that would fix it.

    `fix` is a single index statement (CREATE/DROP INDEX CONCURRENTLY, schema-qualified and quoted) or empty when none is
    safe to name; it is to be executed or copied, so not cleaned. `oid` is the index (0 for a missing one), `table_oid`
    its table. `saves_bytes` and `saves_writes_per_s` (index entries, mean of the statistics window) are what the fix would
    save, None where that is not known.
    """

    kind: FindingKind
    severity: str  # critical | warning | info
    oid: int
    table_oid: int
    index: str  # cleaned schema.name, or the proposed columns for a missing one
    table: str  # cleaned schema.name
    size_bytes: int | None
    scans: int | None
    evidence: str
    risk: str
    fix: str
    saves_bytes: int | None = None
    saves_writes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One index as the catalog and the statistics have it."""

    oid: int
    table_oid: int
    name: str  # cleaned schema.name
    table: str
    method: str
    size_bytes: int | None
    scans: int | None
    last_scan: datetime | None
    valid: bool
    ready: bool
    live: bool
    unique: bool
    primary: bool
    constraint: str  # name of the constraint that owns it, or empty
    replica_identity: bool
    building: bool


@dataclass(frozen=True, slots=True)
class IndexDetail:
    """One index, looked at by itself. `bloat` in words, with its method and error, or why it is not measured. Cleaned
    texts."""

    oid: int
    definition: str
    bloat: str


@dataclass(frozen=True, slots=True)
class IndexHealth:
    indexes: Sequence[IndexRow]
    findings: tuple[HealthFinding, ...]
    stats_since: datetime | None  # start of the window in which scans were counted; None: unknown
    read_at: datetime
    notes: tuple[str, ...] = ()  # what could not be read and which GRANT would allow it


@dataclass(frozen=True, slots=True)
class Activity:
    """First throttle: what the server is doing now. None means not measured (and the matching guard says unknown)."""

    active_backends: int | None
    oldest_xact_s: float | None
    oldest_xact_pid: int | None
    oldest_xact_query: str
    oldest_snapshot_s: float | None  # age of the oldest backend_xmin holder in this database
    prepared_xacts: int | None
    lock_waiters: int | None
    connections: int | None
    max_connections: int | None
    xacts_per_s: float | None


@dataclass(frozen=True, slots=True)
class BuildProgress:
    pid: int
    index_oid: int
    index: str
    table: str
    phase: str
    done: int
    total: int
    lockers_done: int
    lockers_total: int
    blocker_pid: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What looking costs the target: of the last refresh, and a minute (extrapolated from the refreshes so far), in ms of
    the server's own clock. `slower`: questions that come less often than wanted because of the budget, each with its
    seconds now."""

    statements: int
    round_trips: int
    server_ms: float
    statements_per_min: float
    ms_per_min: float
    budget_ms_per_min: float = 0.0
    slower: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """One refresh. `error` tells why the newest refresh failed; the data then is the last good one, of `at`."""

    at: datetime
    hotspots: Hotspots
    health: IndexHealth | None
    activity: Activity
    builds: tuple[BuildProgress, ...]
    cost: Cost
    error: str = ""
    refused: tuple[str, ...] = field(default=())
    signals: Signals | None = None
    book: Book | None = None  # other windows and groups of the same moment
