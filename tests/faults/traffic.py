"""A reader and a writer that go on during a fault, and how long they waited because of us.

Because of us: the wait would not be without our sessions. A reader behind a deploy's ALTER TABLE that is itself only behind
our build waits for us; one behind a lock that the test itself holds does not.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

PAUSE_S = 0.05
LOOK_S = 0.1
OURS = ("ixp", "indexpilot")
STATEMENTS = {
    "reader": b"select v from app.t where id = 7",
    "writer": b"update app.t set w = w where id = 8",
}
WAITING = b"""
select a.pid, a.application_name, pg_blocking_pids(a.pid)
from pg_stat_activity a where a.datname = current_database() and a.wait_event_type = 'Lock'
"""
NAMES = b"select pid, application_name from pg_stat_activity where datname = current_database()"


def because_of_us(
    pid: int, blocked_by: Mapping[int, Iterable[int]], ours: set[int], seen: frozenset[int] = frozenset()
) -> bool:
    """Whether `pid` waits and would not, were it not for our sessions."""
    blockers = set(blocked_by.get(pid, ())) - {pid}
    if not blockers or pid in seen:
        return False
    return all(b in ours or because_of_us(b, blocked_by, ours, seen | {pid}) for b in blockers)


@dataclass
class Lane:
    """One of the two. `worst`: the longest statement as the client saw it; `ours`: the longest stretch of waiting because
    of us; seconds."""

    statement: bytes
    pid: int = 0
    done: int = 0
    refused: int = 0
    worst: float = 0.0
    ours: float = 0.0
    since: float | None = None


@dataclass
class Traffic:
    """Start with `start`, end with `stop`. A server that goes away is connected to again."""

    conninfo: str
    statements: Mapping[str, bytes] = field(default_factory=lambda: STATEMENTS)
    pause_s: float = PAUSE_S
    lanes: dict[str, Lane] = field(default_factory=dict)
    blind: int = 0  # looks that the server did not answer
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.lanes = {name: Lane(statement) for name, statement in self.statements.items()}
        self._threads = [threading.Thread(target=self._drive, args=(n, lane), daemon=True) for n, lane in self.lanes.items()]
        self._threads.append(threading.Thread(target=self._look, daemon=True))
        for thread in self._threads:
            thread.start()
        end = time.monotonic() + 10
        while time.monotonic() < end and not all(lane.done for lane in self.lanes.values()):
            time.sleep(0.005)

    def stop(self) -> None:
        """Returns when the three sessions are closed."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._threads = []

    @property
    def worst(self) -> dict[str, float]:
        """The longest wait of each as the client saw it, whoever it was for."""
        return {name: lane.worst for name, lane in self.lanes.items()}

    @property
    def ours(self) -> float:
        """The longest wait of a reader or a writer because of us."""
        return max((lane.ours for lane in self.lanes.values()), default=0.0)

    def _connect(self, name: str) -> psycopg.Connection[tuple[Any, ...]] | None:
        while not self._stop.is_set():
            try:
                conn = psycopg.connect(f"{self.conninfo} application_name={name} connect_timeout=3", autocommit=True)
            except psycopg.Error:
                self._stop.wait(0.2)
                continue
            with contextlib.suppress(psycopg.Error):  # its statements must not count as the workload that is judged
                conn.execute("set pg_stat_statements.track = 'none'")
            return conn
        return None

    def _drive(self, name: str, lane: Lane) -> None:
        while (conn := self._connect(name)) is not None:
            lane.pid = conn.info.backend_pid
            with conn:
                while not self._stop.wait(self.pause_s) and not conn.closed:
                    start = time.monotonic()
                    try:
                        conn.execute(lane.statement)
                    except psycopg.OperationalError:
                        if conn.closed:
                            break
                        lane.refused += 1
                    except psycopg.Error:  # the test took the table away, or a UNIQUE leftover refuses the row
                        lane.refused += 1
                    else:
                        lane.done += 1
                    lane.worst = max(lane.worst, time.monotonic() - start)
            lane.pid = 0

    def _look(self) -> None:
        while (conn := self._connect("looker")) is not None:
            with conn:
                while not self._stop.wait(LOOK_S) and not conn.closed:
                    try:
                        waiting = conn.execute(WAITING).fetchall()
                        names = conn.execute(NAMES).fetchall() if waiting else []
                    except psycopg.Error:
                        self.blind += 1
                        break
                    self._judge(waiting, names, time.monotonic())

    def _judge(self, waiting: list[tuple[Any, ...]], names: list[tuple[Any, ...]], now: float) -> None:
        blocked_by = {pid: blockers for pid, _, blockers in waiting}
        ours = {pid for pid, name in names if (name or "").startswith(OURS)}
        for lane in self.lanes.values():
            if not because_of_us(lane.pid, blocked_by, ours):
                lane.since = None
                continue
            lane.since = lane.since or now - LOOK_S
            lane.ours = max(lane.ours, now - lane.since)
