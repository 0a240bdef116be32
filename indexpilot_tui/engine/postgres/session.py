"""Sessions on a target: one way to open them, their settings read back, their errors in the operator's words."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, dict_row

from indexpilot_tui.engine.postgres.login import log_in, parameters
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.query_rate import QueryRate, rate_of
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.postgres.tls import TlsFacts, enforce, tls_facts
from indexpilot_tui.engine.postgres.translation import translate
from indexpilot_tui.errors import ConnectError, ServerError
from indexpilot_tui.settings.model import Settings, Target

PACKAGE = "indexpilot_tui.engine.postgres"
T = TypeVar("T")
Query = str | sql.Composed | sql.SQL
Params = Mapping[str, Any] | list[Any] | tuple[Any, ...] | None
OLDEST_SERVER = 130000
GRACE_S = 3.0  # beyond the server's own statement_timeout: then it is not slow, it is silent


class Purpose(StrEnum):
    """MONITOR looks (read-only), CONTROL writes the journal, EXECUTOR sends DDL, OBSERVER watches it and cancels, PLANNER
    plans (planner.py)."""

    MONITOR = "monitor"
    CONTROL = "control"
    EXECUTOR = "executor"
    OBSERVER = "observer"
    PLANNER = "planner"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was true of the session when it was opened. `clock_skew_s`: server time minus ours, seconds."""

    server_version: int
    database: str
    database_oid: int
    session_user: str
    system_identifier: str
    timeline: int
    in_recovery: bool
    server_pid: int
    client_pid: int
    tls: TlsFacts
    host: str
    port: int
    clock_skew_s: float

    @property
    def direct(self) -> bool:
        """False behind a pooler: the process that answers is not the one that greeted us."""
        return self.server_pid == self.client_pid


@dataclass(frozen=True, slots=True)
class SentStatement:
    """One statement that we sent, for the command log. `at` is our clock (UTC), `ms` the round trip."""

    at: datetime
    purpose: str
    text: str
    ms: float
    error: str = ""


Sink = Callable[[SentStatement], None]


async def _answered(conn: AsyncConnection[TupleRow], question: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """The answer within `seconds`. A server that is silent for longer loses the connection, at once: psycopg alone would
    try to cancel for 5 s and wait for 5 s more (measured). Raises ConnectError then; a cancelled caller hangs up, too."""
    if seconds is None:
        return await question
    task = asyncio.create_task(question)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _hang_up(conn, task)
        raise
    if not done:
        await _hang_up(conn, task)
        raise ConnectError(f"the server was silent for {seconds:g} s: the session is given up")
    return task.result()


async def _hang_up(conn: AsyncConnection[TupleRow], task: asyncio.Task[Any]) -> None:
    """Shut the socket under a waiting question: it ends with an error within this process, whatever the network does."""
    with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(conn.pgconn.socket)) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    await asyncio.wait({task}, timeout=1.0)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()  # it is the hang-up itself
    await conn.close()


@dataclass(slots=True)
class Session:
    """One autocommit connection. `readback` holds the settings as the server reports them. `deadline_s`: how long an answer
    to `rows` may take before the server counts as silent and the connection is given up; None: as long as it takes.
    `rate` counts what is sent to the target; only a MONITOR and a PLANNER wait for their turn."""

    conn: AsyncConnection[TupleRow]
    facts: Facts
    purpose: Purpose
    readback: dict[str, str] = field(default_factory=dict)
    sink: Sink | None = None
    deadline_s: float | None = None
    rate: QueryRate | None = None
    from_file: bool = False  # it answers from a bundle: what it says is nobody's word
    target: Target | None = field(default=None, repr=False)  # what it was opened to, for another one to the same place
    settings: Settings | None = field(default=None, repr=False)

    async def turn(self, statements: int = 1) -> None:
        """Before statements are sent: count them, and wait where `rate_limiter.query` says so."""
        if self.rate is not None:
            waited = await self.rate.turn(statements, wait=self.purpose in (Purpose.MONITOR, Purpose.PLANNER))
            if waited > 0.1:
                self.record(f"(waited {waited:.1f} s for rate_limiter.query)", 0.0)

    def record(self, text: str, ms: float, error: str = "") -> None:
        """Tell the command log of a statement that was sent on `conn` directly (pipelines do)."""
        if self.sink is not None:
            self.sink(SentStatement(datetime.now(UTC), self.purpose.value, clean_line(text, 500), ms, error))

    async def rows(self, query: Query, params: Params = None) -> list[dict[str, Any]]:
        """All rows as dicts. Raises the IndexPilotError that fits the server's answer, ConnectError after `deadline_s`."""
        await self.turn()
        return await _answered(self.conn, self._rows(query, params), self.deadline_s)

    async def within(self, question: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """The answer to what was sent on `conn` directly, within `seconds`. A silent server loses the session:
        ConnectError."""
        return await _answered(self.conn, question, seconds)

    async def _rows(self, query: Query, params: Params) -> list[dict[str, Any]]:
        text = query if isinstance(query, str) else query.as_string(self.conn)
        start = time.perf_counter()
        try:
            async with self.conn.cursor(row_factory=dict_row) as cursor:
                # the texts come from our .sql files and psycopg.sql only
                await cursor.execute(query if not isinstance(query, str) else query.encode(), params)
                result = await cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as exc:
            if isinstance(exc, psycopg.errors.CharacterNotInRepertoire) and await self._take_any_byte():
                return await self._rows(query, params)
            error = translate(exc, clean_line(text, 80), question=text)
            self.record(text, (time.perf_counter() - start) * 1000, clean_line(error.message, 300))
            raise error from exc
        self.record(text, (time.perf_counter() - start) * 1000)
        return result

    async def _take_any_byte(self) -> bool:
        """A SQL_ASCII database holds bytes of any encoding, and gives only those out that are UTF-8. One that has others is
        read byte by byte (LATIN1) from then on: what is no ASCII looks odd then, and compares as before."""
        info = self.conn.info
        if info.parameter_status("server_encoding") != "SQL_ASCII" or info.encoding != "utf-8" or not self.facts.direct:
            return False
        if self.purpose is not Purpose.MONITOR:  # what others send has to be what an operator typed
            return False
        await self.conn.execute("set client_encoding to latin1")
        return True

    async def row(self, query: Query, params: Params = None) -> dict[str, Any] | None:
        found = await self.rows(query, params)
        return found[0] if found else None

    async def value(self, query: Query, params: Params = None) -> Any:
        found = await self.row(query, params)
        return next(iter(found.values())) if found else None

    async def execute(self, query: Query, params: Params = None) -> None:
        await self.rows(query, params)

    @property
    def closed(self) -> bool:
        return bool(self.conn.closed or self.conn.broken)

    async def hang_up(self, task: asyncio.Task[Any]) -> None:
        """Shut the socket under a question that gets no answer: `task` ends with an error, and the session is closed."""
        await _hang_up(self.conn, task)

    async def close(self) -> None:
        """End the session; a query that still runs is cancelled first, so that no backend is left working for nobody."""
        if not self.closed and self.conn.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            try:
                await self.conn.cancel_safe(timeout=1)
            except psycopg.Error as exc:
                self.record("cancel", 0.0, clean_line(str(exc), 200))
        await self.conn.close()


def _settings_for(purpose: Purpose, settings: Settings, version: int) -> dict[str, str]:
    """What each kind of session sets: the executor knows no time limit (a limit leaves an INVALID index behind; the
    observer decides), everyone else is short."""
    wanted: dict[str, str] = {"search_path": "pg_catalog"}
    if purpose is Purpose.EXECUTOR:
        wanted |= {"lock_timeout": "0", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
        wanted |= {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
        # a default of the login's must not move the index elsewhere or forbid to make it
        wanted |= {"default_tablespace": "", "default_transaction_isolation": "read committed"}
        wanted |= {"default_transaction_read_only": "off", "default_transaction_deferrable": "off"}
        if version >= 140000:  # a dead executor's build ends within this, and with it whatever waits behind it
            wanted |= {"idle_session_timeout": "0", "client_connection_check_interval": "1s"}
        if version >= 170000:
            wanted["transaction_timeout"] = "0"
        return wanted
    observe = settings.observe
    # shorter than statement_timeout, so that the server says that it was a lock
    lock_ms = {
        Purpose.MONITOR: observe.lock_timeout_ms,
        Purpose.PLANNER: observe.lock_timeout_ms,
        Purpose.CONTROL: 3_000,
    }.get(purpose, 5_000)
    wanted |= {
        "statement_timeout": f"{observe.statement_timeout_ms}ms",
        "lock_timeout": f"{lock_ms}ms",
        "idle_in_transaction_session_timeout": "10s",
    }
    if version >= 140000:
        wanted |= {"client_connection_check_interval": "1s", "idle_session_timeout": "0"}
    if purpose in (Purpose.MONITOR, Purpose.OBSERVER, Purpose.PLANNER):
        wanted["default_transaction_read_only"] = "on"
    if purpose is Purpose.CONTROL:
        wanted["default_transaction_isolation"] = "read committed"
        # an intent row that a crash may forget is none: measured with synchronous_commit = off on the server
        wanted["synchronous_commit"] = "on"
    return wanted


_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def _same(wanted: str, got: str) -> bool:
    """Whether two spellings of a setting are one value (`5000ms` reads back as `5s`)."""

    def milliseconds(text: str) -> float | None:
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = text[len(digits) :]
        if not digits.isdigit() or (unit and unit not in _UNITS):
            return None
        return int(digits) * _UNITS.get(unit, 1)

    if wanted == got:
        return True
    a, b = milliseconds(wanted), milliseconds(got)
    return a is not None and a == b


async def _apply_settings(session: Session, settings: Settings) -> None:
    wanted = _settings_for(session.purpose, settings, session.facts.server_version)
    unix = session.facts.tls.unix_socket
    if unix:  # the server ignores TCP settings there and reads back 0
        wanted = {k: v for k, v in wanted.items() if not k.startswith("tcp_")}
    # one statement to set and one to read back: over a line of 20 ms each would take as long again
    # the role first: ALTER ROLE ... SET role would let us see and act as somebody else
    names, values = [*wanted], [*wanted.values()]
    await session.execute(
        "select pg_catalog.set_config('role', 'none', false)" + ", pg_catalog.set_config(%s, %s, false)" * len(names),
        [part for pair in wanted.items() for part in pair],
    )
    row = await session.row(
        "select current_user = session_user as itself"
        + "".join(f", pg_catalog.current_setting(%s) as s{number}" for number in range(len(names))),
        names,
    )
    if row is None or row["itself"] is not True:
        raise ServerError("this session acts as another role than the one that logged in", field="role")
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        got = str(row[f"s{number}"])
        session.readback[name] = got
        if not _same(value, got):
            raise ServerError(
                f"the server reports {got!r} after it was set to {value!r}, so this session is not what it should be",
                field=name,
                remedy="look for a pooler or an extension that changes settings; connect directly",
            )


async def _facts(conn: AsyncConnection[TupleRow], tls: TlsFacts) -> Facts:
    before = time.time()
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(load(PACKAGE, "session_facts").encode())
        row = await cursor.fetchone()
    middle = (before + time.time()) / 2
    if row is None:
        raise ServerError("the server gave no answer to the question who it is")
    return Facts(
        server_version=row["server_version"],
        database=row["database"],
        database_oid=row["database_oid"],
        session_user=row["session_user"],
        system_identifier=row["system_identifier"],
        timeline=row["timeline"],
        in_recovery=row["in_recovery"],
        server_pid=row["server_pid"],
        client_pid=conn.info.backend_pid,
        tls=replace(tls, version=row["tls_version"] or "", cipher=row["tls_cipher"] or ""),
        host=conn.info.host,
        port=conn.info.port,
        clock_skew_s=row["server_time"].timestamp() - middle,
    )


async def prepare(
    conn: AsyncConnection[TupleRow], target: Target, purpose: Purpose, settings: Settings, sink: Sink | None = None
) -> Session:
    """A fresh connection becomes a Session: encryption against the policy, facts, settings set and read back.

    Raises ConnectError or ServerError; the connection is then for the caller to close.
    """
    tls = tls_facts(conn)
    enforce(target, tls)
    deadline_s = settings.observe.statement_timeout_ms / 1000 + GRACE_S
    try:
        facts = await _answered(conn, _facts(conn, tls), deadline_s)
    except psycopg.Error as exc:
        raise translate(exc, "session start") from exc
    if facts.server_version < OLDEST_SERVER:
        raise ConnectError(f"server version {facts.server_version} is older than PostgreSQL 13, the oldest supported")
    opened = Session(conn, facts, purpose, {}, sink, deadline_s, rate_of(target, settings), target=target, settings=settings)
    if facts.direct:  # behind a pooler a SET would leak to strangers; changes are refused there anyway
        await _apply_settings(opened, settings)
    elif purpose is not Purpose.MONITOR:
        raise ConnectError(
            "this session goes through a pooler (the process that answers is not the one that greeted us)",
            field="host",
            value=facts.host,
            remedy="name the server's own host and port for changes",
        )
    return opened


async def connect(
    target: Target,
    purpose: Purpose,
    settings: Settings,
    *,
    application_name: str | None = None,
    sink: Sink | None = None,
) -> Session:
    """Open one session, check its encryption against the policy, set what this purpose needs and read it back.

    Raises ConnectError (unreachable, refused, wrong certificate or name, not encrypted) with the remedy.
    """
    params = await parameters(target, application_name)
    try:
        conn = await log_in(params)
    except psycopg.Error as exc:
        raise translate(exc, "connect", target=target) from exc
    try:
        return await prepare(conn, target, purpose, settings, sink)
    except BaseException:
        await conn.close()
        raise


@asynccontextmanager
async def session(
    target: Target, purpose: Purpose, settings: Settings, *, application_name: str | None = None
) -> AsyncIterator[Session]:
    """A session for the length of a block."""
    opened = await connect(target, purpose, settings, application_name=application_name)
    try:
        yield opened
    finally:
        await opened.close()
