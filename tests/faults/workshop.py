"""A database with a table, the control schema and three logins, for tests that really change indexes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from indexpilot_tui.engine.changes import executor, planning, stats
from indexpilot_tui.engine.changes.job import Job
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import END_STATES, Change, Plan, State
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.safeguards.terms import terms_of
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target
from tests.faults import oracle
from tests.faults.hooked import Hook
from tests.faults.hooked import spawn as spawn_hooked
from tests.faults.traffic import Traffic
from tests.servers import TlsServer

OWNER, OPERATOR, APPROVER, PLANNER = "w_owner", "w_operator", "w_approver", "w_planner"
TEMPLATE = "workshop"
_numbers = count(1)


def quick(**changed: Any) -> Settings:
    """Settings for tests: no window, short waits. `changed` are values of the observer."""
    observer = {"requeue_delay_seconds": 1, "lease_seconds": 5, "poll_seconds": 0.2} | changed
    return validated(
        Settings,
        {
            "production_safeguards": {
                "maintenance_window": {"enabled": False},
                "throttle": {"enabled": False, "sample_seconds": 0.2},
                "observer": observer,
            },
            "verification": {"window_seconds": 5, "min_calls": 5, "plans": "target"},
            "rate_limiter": {"index_creation": {"max_requests": 50}},
        },
    )


class OnSocket:
    """An embedded cluster, as the place of a workshop."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster, self.log = cluster, cluster.directory / "log"

    def conninfo(self, dbname: str = "postgres", user: str | None = None, **extra: str) -> str:
        return self.cluster.conninfo(dbname, user, **extra)

    def target(self, dbname: str, user: str, *, engine: bool = False, **fields: object) -> Target:
        return socket_target(self.cluster, dbname, user, **fields)

    def login(self, conn: psycopg.Connection[Any], name: str) -> None:
        conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))


class OverTls:
    """Debian's server with TLS, as the place of a workshop. `port`: of what stands between it and the engine, if anything
    does; the test itself talks to the server."""

    def __init__(self, server: TlsServer, port: int | None = None) -> None:
        self.server, self.log, self.port = server, server.root / "log", port

    def conninfo(self, dbname: str = "postgres", user: str | None = None, **extra: str) -> str:
        return make_conninfo(self.server.conninfo(user or "admin", dbname), **extra)

    def target(self, dbname: str, user: str, *, engine: bool = False, **fields: object) -> Target:
        port = {"port": str(self.port)} if engine and self.port is not None else {}
        # not production: that demands metrics of CPU, disk and backup
        values: dict[str, object] = {
            "name": "test",
            "environment": "development",
            "dsn": self.server.conninfo(user, dbname, **port),
            "allow_unix_socket_changes": True,  # of a control schema on another server
        }
        return validated(Target, values | fields)

    def login(self, conn: psycopg.Connection[Any], name: str) -> None:
        self.server.add_login(name, f"{name}-secret")


@dataclass
class Workshop:
    """A database to change indexes in. What follows `monitor` is for the oracle (oracle.py): a test says in `theirs` which
    indexes (schema.name) are not of our changes, in `left` which changes it leaves unfinished and why, and in `not_asked`
    why nothing can be judged at all."""

    cluster: OnSocket | OverTls
    dbname: str
    settings: Settings
    journal: Journal
    approver: Journal
    monitor: Session
    control: Workshop | None = None  # whose control schema this one uses; None: its own
    log_from: int = 0
    traffic_of: Traffic | None = None
    theirs: set[str] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)
    not_asked: str = ""
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list)
    _executors: list[int] = field(default_factory=list)
    _refused: dict[int, int] = field(default_factory=dict)  # the last row of the log before the last spawn

    @property
    def target(self) -> Target:
        return self.cluster.target(self.dbname, OPERATOR, engine=True, planner=PLANNER)

    @property
    def log(self) -> Path:
        return self.cluster.log

    @property
    def rate_window_s(self) -> float:
        return float(self.settings.rate_limiter.index_creation.time_window_seconds)

    def superuser(self) -> str:
        return self.cluster.conninfo(self.dbname, application_name="oracle")

    def control_superuser(self) -> str:
        return (self.control or self).superuser()

    def control_target(self, user: str) -> Target:
        home = self.control or self
        return home.cluster.target(home.dbname, user)

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

    async def reopen(self) -> None:
        """New sessions of the test's own, after the server was away."""
        for old in (self.journal.session, self.approver.session, self.monitor):
            with contextlib.suppress(psycopg.Error):
                await old.close()
        control = [await connect(self.control_target(user), Purpose.CONTROL, self.settings) for user in (OPERATOR, APPROVER)]
        self.journal, self.approver = await Journal.open(control[0]), await Journal.open(control[1])
        self.monitor = await connect(self.cluster.target(self.dbname, OPERATOR), Purpose.MONITOR, self.settings)

    async def plan(self, ddl: str) -> Plan:
        """As a console proposes it: with the limits of now."""
        plan = await planning.make_plan(self.monitor, parse_index_statement(ddl), self.settings)
        return replace(plan, terms=terms_of(self.target, self.settings))

    async def approved(self, ddl: str, terms: dict[str, Any] | None = None) -> int:
        plan = await self.plan(ddl)
        plan = plan if terms is None else replace(plan, terms=terms)
        change_id = await self.journal.propose(plan, target="test", reason="a test")
        await stats.remember(self.monitor, self.journal, change_id, "proposed")
        await self.approver.approve(change_id, plan.sha256, timedelta(hours=1))
        return change_id

    async def spawn(self, change_id: int, *, resume: bool = False, hook: Hook | None = None) -> int:
        """Start an executor; one with a `hook` stops or dies at one exact write."""
        with contextlib.suppress(IndexPilotError):  # a control schema that is away
            self._refused[change_id] = (await self.journal.change(change_id)).events[-1].seq
        if hook is None:
            pid = await executor.spawn(self.target, self.settings, change_id, resume=resume)
        else:
            job = Job(target=self.target, settings=self.settings, change_id=change_id, resume=resume)
            pid = await spawn_hooked(job.to_json(), hook)
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

    async def until_event(self, change_id: int, action: str, seconds: float = 20.0, *, after_end: bool = False) -> Change:
        """Wait for a row of the log. `after_end`: one that comes after the change has ended."""
        end = time.monotonic() + seconds
        while True:
            change = await self.journal.change(change_id)
            if any(e.action == action for e in change.events):
                return change
            last = change.events[-1]
            refused = last.action == "apply.refused" and last.seq > self._refused.get(change_id, 0)  # since the last spawn
            if time.monotonic() > end or (change.ended and not after_end) or refused:
                raise AssertionError(f"no {action}: {change.outcome}\n{story(change)}")
            await asyncio.sleep(0.05)

    def invalid(self) -> list[str]:
        rows = self.sql("select indexrelid::regclass::text from pg_index where not indisvalid and indrelid > 16383")
        return [str(row[0]) for row in rows]

    def indexes(self) -> list[str]:
        return [str(r[0]) for r in self.sql("select indexname from pg_indexes where schemaname = 'app' order by 1")]

    def close(self) -> None:
        if self.traffic_of is not None:
            self.traffic_of.stop()
        for pid in self._executors:
            if alive(pid) and _executor(pid):
                os.kill(pid, signal.SIGKILL)  # one that still observes, say
        for conn in self._opened:
            conn.close()

    @contextmanager
    def traffic(self) -> Iterator[dict[str, float]]:
        """A reader and a writer of this block alone, beside those that go on all the time; the longest wait of each,
        seconds, whoever it was for."""
        more = Traffic(self.cluster.conninfo(self.dbname))
        worst = {"reader": 0.0, "writer": 0.0}
        more.start()
        try:
            yield worst
        finally:
            more.stop()
            worst.update(more.worst)


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


def _executor(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return any(name in command for name in (b"changes.executor", b"faults.hooked", b"tests.warm"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _template(place: OnSocket | OverTls) -> None:
    """The database that workshops are copied from: control schema, logins, two tables. Made once a server."""
    with psycopg.connect(place.conninfo(), autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", (TEMPLATE,)).fetchone():
            return
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        if conn.execute("show log_line_prefix").fetchone() != (oracle.LOG_PREFIX,):
            conn.execute(sql.SQL("alter system set log_line_prefix = {}").format(oracle.LOG_PREFIX))
            conn.execute("select pg_reload_conf()")
    with psycopg.connect(place.conninfo(TEMPLATE), autocommit=True) as conn:
        conn.execute(setup_sql().encode())
        conn.execute(
            "insert into indexpilot.statistics_tables (schema_pattern, table_pattern, enrolled_by) values ('app', '*', 'a test')"
        )
        if not conn.execute("select 1 from pg_roles where rolname = %s", (OWNER,)).fetchone():
            conn.execute(f"create role {OWNER} nologin".encode())
        for role in (OPERATOR, APPROVER, PLANNER):
            if not conn.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone():
                place.login(conn, role)
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


def _furnish(place: OnSocket | OverTls, dbname: str) -> None:
    """The database, with a log chain of its own; what the executors send goes to the server's log."""
    _template(place)
    with psycopg.connect(place.conninfo(), autocommit=True) as conn:
        strategy = " strategy file_copy" if conn.info.server_version >= 150000 else ""
        conn.execute(f"create database {dbname} template {TEMPLATE}{strategy}".encode())
        conn.execute(f"alter role {OPERATOR} in database {dbname} set log_statement = 'all'".encode())
    with psycopg.connect(place.conninfo(dbname), autocommit=True) as conn:
        conn.execute("update indexpilot.chain_head set chain_id = gen_random_uuid()")


@asynccontextmanager
async def make_workshop(
    cluster: LocalCluster | OnSocket | OverTls, settings: Settings | None = None, *, control: Workshop | None = None
) -> AsyncIterator[Workshop]:
    """A workshop on this server; at its end the common oracle is asked, when it is a fault test that made it.

    `control`: a workshop, perhaps on another server, whose control schema is used instead of one in the same database.
    """
    place = OnSocket(cluster) if isinstance(cluster, LocalCluster) else cluster
    dbname = f"work_{next(_numbers)}"
    settings = settings or quick()
    if control is not None:
        dsn = control.cluster.target(control.dbname, OPERATOR).dsn
        settings = replace(settings, control=replace(settings.control, dsn=dsn))
    log_from = place.log.stat().st_size
    _furnish(place, dbname)
    opened: list[Session] = []
    try:
        home = (control.cluster, control.dbname) if control is not None else (place, dbname)

        async def journal(user: str) -> Journal:
            session = await connect(home[0].target(home[1], user), Purpose.CONTROL, settings)
            opened.append(session)
            return await Journal.open(session)

        monitor = await connect(place.target(dbname, OPERATOR), Purpose.MONITOR, settings)
        opened.append(monitor)
        workshop = Workshop(place, dbname, settings, await journal(OPERATOR), await journal(APPROVER), monitor)
        workshop.control, workshop.log_from = control, log_from
        if oracle.listening():
            workshop.traffic_of = Traffic(place.conninfo(dbname))
            workshop.traffic_of.start()
        try:
            yield workshop
        except BaseException:
            await oracle.hold(workshop, failed=True)
            raise
        else:
            await oracle.hold(workshop)
        finally:
            workshop.close()
            opened += [workshop.monitor, workshop.journal.session, workshop.approver.session]
            place = workshop.cluster
    finally:
        for session in opened:
            with contextlib.suppress(psycopg.Error):
                await session.close()
        with psycopg.connect(place.conninfo(), autocommit=True) as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(dbname)))
