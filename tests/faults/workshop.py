"""A database with a table, the control schema and three logins, for tests that really change indexes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.changes import executor, planning, stats
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import END_STATES, Change, State
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.conftest import socket_target

OWNER, OPERATOR, APPROVER = "w_owner", "w_operator", "w_approver"
_numbers = count(1)


def quick(**changed: Any) -> Settings:
    """Settings for tests: no window, short waits. `changed` are values of the observer."""
    observer = {"requeue_delay_seconds": 1, "lease_seconds": 5, "poll_seconds": 0.2} | changed
    return Settings.model_validate(
        {
            "production_safeguards": {
                "maintenance_window": {"enabled": False},
                "throttle": {"enabled": False},
                "observer": observer,
            },
            "verification": {"window_seconds": 5, "min_calls": 5},
            "rate_limiter": {"index_creation": {"max_requests": 50}},
        }
    )


@dataclass
class Workshop:
    cluster: LocalCluster
    dbname: str
    settings: Settings
    journal: Journal
    approver: Journal
    monitor: Session
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list)
    _executors: list[int] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return socket_target(self.cluster, self.dbname, OPERATOR)

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's autocommit connection, closed with the workshop."""
        conn = psycopg.connect(self.cluster.conninfo(self.dbname, application_name="admin"), autocommit=True)
        self._opened.append(conn)
        return conn

    def sql(self, text: str, *args: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.cluster.conninfo(self.dbname), autocommit=True) as conn:
            cursor = conn.execute(text.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    def blocker(self, *statements: str) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection with an open transaction that has run these."""
        conn = psycopg.connect(self.cluster.conninfo(self.dbname, application_name="app"))
        self._opened.append(conn)
        for statement in statements:
            conn.execute(statement.encode())
        return conn

    async def approved(self, ddl: str) -> int:
        plan = await planning.make_plan(self.monitor, parse_index_statement(ddl))
        change_id = await self.journal.propose(plan, target="test", reason="a test")
        await stats.remember(self.monitor, self.journal, change_id, "proposed")
        await self.approver.approve(change_id, plan.sha256, timedelta(hours=1))
        return change_id

    async def spawn(self, change_id: int, *, resume: bool = False) -> int:
        pid = await executor.spawn(self.target, self.settings, change_id, resume=resume)
        self._executors.append(pid)
        return pid

    async def until(self, change_id: int, *states: State, seconds: float = 30.0) -> Change:
        """Wait for one of these states. Fails with the whole story."""
        end = time.monotonic() + seconds
        while True:
            change = await self.journal.change(change_id)
            if change.state in states:
                return change
            if time.monotonic() > end or (change.state in END_STATES | {State.NEEDS_OPERATOR}):
                raise AssertionError(f"{change.state} instead of {states}: {change.outcome}\n{story(change)}")
            await asyncio.sleep(0.1)

    async def until_event(self, change_id: int, action: str, seconds: float = 20.0) -> Change:
        end = time.monotonic() + seconds
        while True:
            change = await self.journal.change(change_id)
            if any(e.action == action for e in change.events):
                return change
            if time.monotonic() > end:
                raise AssertionError(f"no {action}: {change.outcome}\n{story(change)}")
            await asyncio.sleep(0.05)

    def invalid(self) -> list[str]:
        rows = self.sql("select indexrelid::regclass::text from pg_index where not indisvalid and indrelid > 16383")
        return [str(row[0]) for row in rows]

    def indexes(self) -> list[str]:
        return [str(r[0]) for r in self.sql("select indexname from pg_indexes where schemaname = 'app' order by 1")]

    def close(self) -> None:
        for pid in self._executors:
            if alive(pid) and b"changes.executor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)  # one that still observes, say
        for conn in self._opened:
            conn.close()

    @contextmanager
    def traffic(self) -> Iterator[dict[str, float]]:
        """A reader and a writer that go on; the longest wait of each, seconds."""
        worst = {"reader": 0.0, "writer": 0.0}
        stop = threading.Event()

        def run(name: str, statement: bytes) -> None:
            with psycopg.connect(self.cluster.conninfo(self.dbname, application_name=name), autocommit=True) as conn:
                while not stop.is_set():
                    start = time.monotonic()
                    conn.execute(statement)
                    worst[name] = max(worst[name], time.monotonic() - start)
                    time.sleep(0.01)

        threads = [
            threading.Thread(target=run, args=("reader", b"select v from app.t where id = 7")),
            threading.Thread(target=run, args=("writer", b"update app.t set v = v + 1 where id = 8")),
        ]
        for thread in threads:
            thread.start()
        try:
            yield worst
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)


def story(change: Change) -> str:
    return "\n".join(f"{e.seq} {e.at:%H:%M:%S.%f} {e.action} {str(e.detail)[:200]}" for e in change.events)


def actions(change: Change) -> list[str]:
    return [event.action for event in change.events]


def check_intents(change: Change) -> None:
    """Every deed has its intent row before it: an outcome never stands without one."""
    open_intents: list[str] = []
    for event in change.events:
        head, _, tail = event.action.rpartition(".")
        if tail == "intent":
            open_intents.append(head)
        elif tail in ("outcome", "sent") and head not in ("abort",):
            assert head in open_intents, f"{event.action} without its intent\n{story(change)}"
    sent = [e for e in change.events if e.action == "ddl.intent"]
    runs = [e for e in change.events if e.action == "claimed"]
    assert len(sent) <= len(runs), story(change)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@asynccontextmanager
async def make_workshop(cluster: LocalCluster, settings: Settings | None = None) -> AsyncIterator[Workshop]:
    dbname = f"work_{next(_numbers)}"
    settings = settings or quick()
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(dbname)))
    with psycopg.connect(cluster.conninfo(dbname), autocommit=True) as conn:
        conn.execute(setup_sql().encode())
        for role, options in ((OWNER, "nologin"), (OPERATOR, "login"), (APPROVER, "login")):
            if not conn.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone():
                conn.execute(f"create role {role} {options}".encode())
        conn.execute(f"grant indexpilot_operator to {OPERATOR}; grant indexpilot_approver to {APPROVER}".encode())
        option = " with inherit false, set true" if conn.info.server_version >= 160000 else ""
        conn.execute(f"grant {OWNER} to {OPERATOR}{option}".encode())
        conn.execute(
            f"""create extension pg_stat_statements;
            create schema app authorization {OWNER};
            set role {OWNER};
            create table app.t (id int primary key, v int, w text);
            create table app.other (id int primary key);
            insert into app.t select i, i % 1000, md5(i::text) from generate_series(1, 20000) i;
            analyze app.t""".encode()
        )
    opened: list[Session] = []
    try:

        async def journal(user: str) -> Journal:
            session = await connect(socket_target(cluster, dbname, user), Purpose.CONTROL, settings)
            opened.append(session)
            return await Journal.open(session)

        monitor = await connect(socket_target(cluster, dbname, OPERATOR), Purpose.MONITOR, settings)
        opened.append(monitor)
        workshop = Workshop(cluster, dbname, settings, await journal(OPERATOR), await journal(APPROVER), monitor)
        try:
            yield workshop
        finally:
            workshop.close()
    finally:
        for session in opened:
            with contextlib.suppress(psycopg.Error):
                await session.close()
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(dbname)))
