"""The pulse of a server: the one row of `pulse.sql`, and what two of them say about the time between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line


@dataclass(frozen=True, slots=True)
class Wait:
    """Sessions at work on one statement that wait for one thing; `kind` is empty for those that wait for nothing, so are
    on a CPU. `queryid` is None before PostgreSQL 14 and where the server computes none."""

    queryid: int | None
    kind: str
    event: str
    sessions: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """One reading. Times by the server's clock. What rests on the state of other sessions is None where that is hidden:
    a count of the visible ones would look like a quiet server. Counters grow from a reset on; the
    times of blocks are those of sessions, in ms, and stand still where track_io_timing is off."""

    at: datetime
    started: datetime
    in_recovery: bool
    hidden: int
    active_backends: int | None
    on_cpu: int | None
    idle_in_transaction: int | None
    lock_waiters: int | None
    waits: tuple[Wait, ...] | None
    oldest_xact_s: float | None
    oldest_xact_pid: int | None
    oldest_xact_query: str
    oldest_snapshot_s: float | None
    prepared_xacts: int
    oldest_prepared_s: float | None
    builds: int
    client_backends: int
    max_connections: int
    reserved_connections: int
    commits: int
    rollbacks: int
    temp_bytes: int
    deadlocks: int
    wal_position: float | None
    checkpoints_timed: int
    checkpoints_requested: int
    began: datetime
    ms: float
    round_ms: float
    temp_files: int = 0
    block_read_ms: float = 0.0
    block_write_ms: float = 0.0


def pulse_of(row: Mapping[str, Any]) -> Pulse:
    """A Pulse from the row of `pulse.sql`."""
    visible = not row["hidden"]

    def seen(name: str) -> Any:
        return row[name] if visible else None

    return Pulse(
        at=row["at"],
        started=row["started"],
        in_recovery=row["in_recovery"],
        hidden=row["hidden"],
        active_backends=seen("active_backends"),
        on_cpu=seen("on_cpu"),
        idle_in_transaction=seen("idle_in_transaction"),
        lock_waiters=seen("lock_waiters"),
        waits=tuple(_wait(entry) for entry in row["waits"] or ()) if visible else None,
        oldest_xact_s=(row["oldest_xact_s"] or 0.0) if visible else None,
        oldest_xact_pid=seen("oldest_xact_pid"),
        oldest_xact_query=clean_line(row["oldest_xact_query"] or "", 500) if visible else "",
        oldest_snapshot_s=(row["oldest_snapshot_s"] or 0.0) if visible else None,
        prepared_xacts=row["prepared_xacts"],
        oldest_prepared_s=row["oldest_prepared_s"],
        builds=row["builds"],
        client_backends=row["client_backends"] + 1,  # this session
        max_connections=row["max_connections"],
        reserved_connections=row["reserved_connections"],
        commits=row["commits"],
        rollbacks=row["rollbacks"],
        temp_bytes=row["temp_bytes"],
        deadlocks=row["deadlocks"],
        wal_position=row["wal_position"],
        checkpoints_timed=row["checkpoints_timed"],
        checkpoints_requested=row["checkpoints_requested"],
        began=row["began"],
        ms=row["ms"],
        round_ms=row["round_ms"],
        temp_files=row["temp_files"],
        block_read_ms=row["read_ms"],
        block_write_ms=row["write_ms"],
    )


def _wait(entry: list[Any]) -> Wait:
    queryid, kind, event, sessions = entry
    return Wait(int(queryid) if queryid else None, clean_line(kind), clean_line(event), sessions)


@dataclass(frozen=True, slots=True)
class Rates:
    """What the server did between two pulses, a second. None: not known (no earlier pulse, a restart, a reset, hidden)."""

    seconds: float = 0.0
    xacts: float | None = None
    rollbacks: float | None = None
    wal_bytes: float | None = None
    temp_bytes: float | None = None
    deadlocks: int | None = None
    checkpoints_timed: int | None = None
    checkpoints_requested: int | None = None
    temp_files: int | None = None
    block_read_ms: float | None = None
    block_write_ms: float | None = None


def rates_between(older: Pulse | None, newer: Pulse) -> Rates:
    """The growth of each counter. One that went back was reset and says nothing; after a restart or a failover none does."""
    if older is None or older.started != newer.started or older.in_recovery != newer.in_recovery:
        return Rates()
    seconds = (newer.at - older.at).total_seconds()
    if seconds <= 0:
        return Rates()

    def grown(before: float | None, now: float | None) -> float | None:
        return now - before if before is not None and now is not None and now >= before else None

    def rate(before: float | None, now: float | None) -> float | None:
        growth = grown(before, now)
        return None if growth is None else growth / seconds

    def whole(before: int, now: int) -> int | None:
        growth = grown(before, now)
        return None if growth is None else int(growth)

    commits, rollbacks = rate(older.commits, newer.commits), rate(older.rollbacks, newer.rollbacks)
    return Rates(
        seconds=seconds,
        xacts=None if commits is None or rollbacks is None else commits + rollbacks,
        rollbacks=rollbacks,
        wal_bytes=rate(older.wal_position, newer.wal_position),
        temp_bytes=rate(older.temp_bytes, newer.temp_bytes),
        deadlocks=whole(older.deadlocks, newer.deadlocks),
        checkpoints_timed=whole(older.checkpoints_timed, newer.checkpoints_timed),
        checkpoints_requested=whole(older.checkpoints_requested, newer.checkpoints_requested),
        temp_files=whole(older.temp_files, newer.temp_files),
        block_read_ms=rate(older.block_read_ms, newer.block_read_ms),
        block_write_ms=rate(older.block_write_ms, newer.block_write_ms),
    )
