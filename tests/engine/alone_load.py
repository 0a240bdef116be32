"""Scenes of the load gate: each figure over its limit, on a server where it is so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.model.verdict import Status
from tests.engine.alone import Place, busy, tried, waiting
from tests.faults.workshop import Workshop


def throttle(**limits: Any) -> dict[str, Any]:
    """Judged in two quick samples, with one limit that is not the default."""
    return {"throttle": {"enabled": True, "sample_seconds": 0.2, "cooldown_seconds": 0} | limits}


@tried("load.active_backends", Status.WAIT, throttle(max_active_backends=1))
@contextmanager
def active_backends(place: Place) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(busy(place.workshop, "select pg_sleep(0.05)"))
        yield


@tried("load.oldest_transaction", Status.WAIT, throttle(max_oldest_xact_seconds=0.5))
@contextmanager
def oldest_transaction(place: Place) -> Iterator[None]:
    conn = place.workshop.blocker("select 1")
    time.sleep(0.5)
    yield
    conn.rollback()


@tried("load.lock_waiters", Status.WAIT, throttle(max_lock_waiters=0))
@contextmanager
def lock_waiters(place: Place) -> Iterator[None]:
    holder = place.workshop.admin()
    holder.execute("select pg_advisory_lock(7)")
    with waiting(place.workshop, "select pg_advisory_lock(7)", "Lock:advisory"):
        yield
        holder.execute("select pg_advisory_unlock(7)")


@tried("load.lwlock_waits", Status.WAIT, throttle(max_lwlock_waits=0))
@contextmanager
def lwlock_waits(place: Place) -> Iterator[None]:
    """Who changes a setting of the server reads the file of them under a lock of the server's own. Here the file is a pipe
    that nobody writes into, so whoever comes second waits for that lock."""
    file = _data_directory(place.workshop) / "postgresql.auto.conf"
    kept = file.read_bytes()
    owner = file.stat()
    with ExitStack() as stack:
        file.unlink()
        os.mkfifo(file, 0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
        try:
            statement = "alter system reset log_min_duration_statement"  # it leaves nothing behind
            stack.enter_context(waiting(place.workshop, statement, "LWLock:AutoFile", 2))
            yield
        finally:
            file.write_bytes(kept)  # opens the pipe at its other end: the first goes on, and leaves a file there


@tried("load.io_waits", Status.WAIT, throttle(max_io_waits=0))
@contextmanager
def io_waits(place: Place) -> Iterator[None]:
    """The processes that read for others are stopped, so whoever reads a table that is not in memory waits for them."""
    readers = place.workshop.sql("select pid from pg_stat_activity where backend_type = 'io worker'")
    assert readers
    with ExitStack() as stack:
        for (pid,) in readers:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        with waiting(place.workshop, "select count(*) from app.t", "IO:AioIoCompletion"):
            yield
            stack.close()


@tried("load.transactions", Status.WAIT, throttle(max_transactions_per_second=300))
@contextmanager
def transactions(place: Place) -> Iterator[None]:
    """Counted as soon as a session that has also read a table is idle."""
    many = "do $$ begin for i in 1..500 loop perform from app.other; commit; end loop; perform pg_stat_force_next_flush(); end $$"
    with busy(place.workshop, many, pause_s=0.01):
        yield


@tried("load.wal", Status.WAIT, throttle(max_wal_mb_per_second=1))
@contextmanager
def wal(place: Place) -> Iterator[None]:
    with busy(place.workshop, "select pg_logical_emit_message(false, 'x', repeat('x', 100000))", pause_s=0.01):
        yield


@tried("load.checkpoints", Status.WAIT, throttle(max_requested_checkpoints=0))
@contextmanager
def checkpoints(place: Place) -> Iterator[None]:
    with busy(place.workshop, "checkpoint", pause_s=0.01):
        yield


def _data_directory(workshop: Workshop) -> Path:
    return Path(str(workshop.sql("show data_directory")[0][0]))
