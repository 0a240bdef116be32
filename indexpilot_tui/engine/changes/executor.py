"""The one door for DDL, and the process behind it. Nothing else in this program sends DDL to a target.

Each deed needs a fresh Clearance of the safeguards, has its intent row in the journal before it is sent, and is sent on a
session of which every setting was read back. `python -m indexpilot_tui.engine.changes.executor` runs one change.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, Protocol

import psycopg
from psycopg import sql

from indexpilot_tui.engine.changes.agreement import must_agree
from indexpilot_tui.engine.changes.catalog import Backend, IndexFacts, own_backend
from indexpilot_tui.engine.changes.hold import Hold
from indexpilot_tui.engine.changes.job import Job, spawn
from indexpilot_tui.engine.changes.planning_existing import ddl_for
from indexpilot_tui.engine.changes.predecessor import end_predecessors
from indexpilot_tui.engine.dumps import forbid_core_dumps
from indexpilot_tui.engine.model.change import Change, Plan, State
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.errors import RefusedError
from indexpilot_tui.settings.model import Settings, Target

__all__ = ["LOCK_CLASS", "Door", "main", "spawn"]

STILL_READING = (
    "select pg_catalog.current_setting('transaction_read_only') = 'on'"
    " and pg_catalog.pg_current_xact_id_if_assigned() is null and current_user = %(owner)s"
)
FINISH_LOCK = "2s"  # unlike a build, these leave nothing behind when they give up
STEP_LOCK = "1s"  # the same; whoever came after it waits as long
TRY_LOCK = "select pg_catalog.pg_try_advisory_lock(%s::int, %s::int)"
LOCK_CLASS = 0x1D8F  # first key of our advisory locks; the second is the table's OID - 2^31 (as pg_repack does)


def lock_key(table_oid: int) -> tuple[int, int]:
    """The two keys of a table's advisory lock."""
    return LOCK_CLASS, table_oid - 2**31


class Place(Protocol):
    """Where a change is carried out."""

    @property
    def target(self) -> Target: ...
    @property
    def settings(self) -> Settings: ...


class Door:
    """An EXECUTOR session that holds the table's advisory lock and acts as the table's owner.

    The lock is only ever tried for: waiting for it would kill the build of whoever holds it (measured).
    """

    def __init__(self, session: Session, hold: Hold, plan: Plan, backend: Backend) -> None:
        self.session, self.hold, self.plan, self.backend = session, hold, plan, backend
        self.notices: list[str] = []
        session.conn.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self.notices.append(clean_line(diagnostic.message_primary or "", 300))

    @classmethod
    async def open(cls, target: Target, settings: Settings, hold: Hold, plan: Plan) -> Door | None:
        """Connect, try for the table's lock, become its owner. None when another session has the lock; an executor of this
        change that was taken over does not keep it.

        Raises ConnectError, ServerError (a setting did not stick), PrivilegeError (SET ROLE refused).
        """
        session = await connect(target, Purpose.EXECUTOR, settings, application_name=f"ixp:{hold.change_id}:{hold.epoch}")
        try:
            lock = lock_key(plan.table_oid)
            got = await session.value(TRY_LOCK, lock)
            if got is not True and await end_predecessors(session, hold, lock):
                got = await session.value(TRY_LOCK, lock)
            if got is not True:
                await session.close()
                return None
            backend = await own_backend(session)
            await session.execute(sql.SQL("set role {}").format(sql.Identifier(plan.owner)))
            return cls(session, hold, plan, backend)
        except BaseException:
            await session.close()
            raise

    def _check(self, clearance: Clearance, deed: str) -> None:
        clearance.check(
            plan_sha256=self.plan.sha256,
            system_identifier=self.session.facts.system_identifier,
            database=self.session.facts.database,
            epoch=self.hold.epoch,
            deed=deed,
        )
        if self.hold.fenced:
            raise RefusedError("somebody else has taken this change over")

    async def start_change(
        self,
        clearance: Clearance,
        parent: Change | None = None,
        *,
        repair: bool = False,
        before: dict[str, Any] | None = None,
    ) -> asyncio.Task[None]:
        """Write `ddl.intent` (state running) and send the plan's DDL. The task ends with the statement; it raises
        psycopg.Error when the statement did not succeed. `before`: what stands now, for the intent row.

        The text must say what the plan's fields say, and for a rollback be the opposite of `parent`: the fields are what
        was judged and approved. RefusedError otherwise. `repair`: a second person decided to have the half-dropped index
        of this plan back, so it is rebuilt, by the same fields.
        """
        self._check(clearance, "change")
        must_agree(self.plan, parent)
        ddl = ddl_for("reindex", self.plan.schema, self.plan.index) if repair else self.plan.ddl
        intent = {
            "ddl": ddl,
            "pid": self.backend.pid,
            "backend_start": self.backend.start.isoformat(),
            "settings": self.session.readback,
            "plan_sha256": self.plan.sha256,
            **({"before": before} if before else {}),
        }
        await self.hold.advance(State.RUNNING, "ddl.intent", intent)
        self._check(clearance, "change")  # the process may have been stopped in between
        return asyncio.create_task(self._send(sql.SQL(ddl)))

    async def begin_steps(self, clearance: Clearance, parent: Change | None = None) -> None:
        """Write `ddl.intent` (state running) for a change on a partitioned table, with the text of every step. Nothing is
        sent yet: each step has an intent row of its own."""
        self._check(clearance, "change")
        must_agree(self.plan, parent)
        intent = {
            "ddl": self.plan.ddl,
            "steps": [step.ddl for step in self.plan.steps],
            "pid": self.backend.pid,
            "backend_start": self.backend.start.isoformat(),
            "settings": self.session.readback,
            "plan_sha256": self.plan.sha256,
        }
        await self.hold.advance(State.RUNNING, "ddl.intent", intent)

    async def start_step(self, clearance: Clearance, position: int) -> asyncio.Task[None]:
        """Write the intent row of one step and send it; one that wants a lock which stops others waits for it no longer
        than STEP_LOCK. The table of a build is locked for other changes of ours as long as this session lives."""
        self._check(clearance, "change")
        step = self.plan.steps[position]
        if step.deed != "leaf":
            await self.session.execute("select 1")  # a session that was lost is found out before there is an intent
        elif not await self._try_lock(step.table_oid):
            raise RefusedError(f"another session holds the lock for changes of {clean_line(step.table)}")
        intent = {"position": position, "deed": step.deed, "ddl": step.ddl, "pid": self.backend.pid}
        await self.hold.append("part.intent", intent)
        await self.hold.set_part(position, "begun", None)
        self._check(clearance, "change")
        statement = sql.SQL(step.ddl)
        if step.deed == "leaf":
            return asyncio.create_task(self._send(statement))
        return asyncio.create_task(self._briefly(statement, STEP_LOCK))

    async def count_duplicates(self, place: Place, query: sql.Composed, max_seconds: float) -> tuple[int, int]:
        """Ask as the table's owner, who may read it, in a transaction that can only read and is over within the time, on a
        connection that is closed afterwards: what hangs on the table runs here, and nothing else ever does. Raises
        psycopg.Error, and IndexPilotError when no second connection is to be had or something was written."""
        session = await connect(
            place.target, Purpose.EXECUTOR, place.settings, application_name=f"ixp-count:{self.hold.change_id}"
        )
        try:
            async with session.conn.cursor() as cursor:
                await cursor.execute("begin transaction isolation level read committed read only")
                for setting, value in (("statement_timeout", f"{max_seconds * 1000:.0f}ms"), ("lock_timeout", FINISH_LOCK)):
                    await cursor.execute("select pg_catalog.set_config(%s, %s, true)", (setting, value))
                await cursor.execute(sql.SQL("set local role {}").format(sql.Identifier(self.plan.owner)))
                await cursor.execute(query)
                row = await cursor.fetchone()
                await cursor.execute(STILL_READING, {"owner": self.plan.owner})
                still = await cursor.fetchone()
        finally:
            await session.close()
        if still is None or still[0] is not True:
            raise RefusedError("the count wrote something, or left its transaction or its role: what it told is not used")
        if row is None:
            raise psycopg.DataError("the server gave no row")
        return int(row[0]), int(row[1])

    async def _try_lock(self, table_oid: int) -> bool:
        got = await self.session.value("select pg_catalog.pg_try_advisory_lock(%s::int, %s::int)", lock_key(table_oid))
        return got is True

    async def start_cleaning(
        self, clearance: Clearance, index: IndexFacts, *, made_by_us: bool = False
    ) -> asyncio.Task[None]:
        """Write `clean.intent` and drop our own INVALID leftover, by the name that its OID has now. `made_by_us`: the index
        is a finished part of a change on a partitioned table that is given up, recorded by its OID. That of a partitioned
        table itself cannot be dropped concurrently: it waits for its locks no longer than STEP_LOCK."""
        self._check(clearance, "clean")
        if index.valid and not made_by_us:
            raise RefusedError(f"index {index.oid} is valid: it is not a leftover")
        pinned = f"ixp_leftover_{index.oid}"
        drop = sql.SQL("drop index {}") if index.partitioned else sql.SQL("drop index concurrently {}")
        statement = drop.format(sql.Identifier(index.schema, pinned))
        await self.hold.append(
            "clean.intent",
            {"oid": index.oid, "name": f"{index.schema}.{index.name}", "flags": index.flags, "unique": index.unique,
             "renamed_to": pinned, "ddl": statement.as_string(None), "pid": self.backend.pid},
        )  # fmt: skip
        self._check(clearance, "clean")
        await self._pin(index, pinned)
        return asyncio.create_task(self._briefly(statement, STEP_LOCK) if index.partitioned else self._send(statement))

    async def _pin(self, index: IndexFacts, pinned: str) -> None:
        """Give our leftover a name that nobody else uses. DROP INDEX goes by name, and a name is resolved again after a
        lock was waited for: whatever has our name by then would be dropped (measured). RefusedError when the name stood
        for another index already; psycopg.Error when the lock is not to be had at once."""
        if index.name == pinned:
            return
        async with self.session.conn.transaction(), self.session.conn.cursor() as cursor:
            await cursor.execute("set local lock_timeout = '1s'")
            old = sql.Identifier(index.schema, index.name)
            await cursor.execute(sql.SQL("alter index {} rename to {}").format(old, sql.Identifier(pinned)))
            await cursor.execute(
                "select c.oid::int8 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
                " where n.nspname = %s and c.relname = %s",
                (index.schema, pinned),
            )
            row = await cursor.fetchone()
            if row is None or row[0] != index.oid:
                raise RefusedError(f"{clean_line(index.schema)}.{clean_line(index.name)} is another index by now")

    async def start_finishing(self, clearance: Clearance, action: str, statement: sql.Composed) -> asyncio.Task[None]:
        """What belongs to an index that is valid: ANALYZE of its table, its comment, its statistics targets. Writes the
        intent row and sends one statement, which waits for a lock no longer than FINISH_LOCK. The task raises
        psycopg.Error."""
        self._check(clearance, "finish")
        await self.hold.append(f"{action}.intent", {"ddl": statement.as_string(None), "pid": self.backend.pid})
        self._check(clearance, "finish")
        return asyncio.create_task(self._briefly(statement, FINISH_LOCK))

    async def _briefly(self, statement: sql.Composed | sql.SQL, lock_timeout: str) -> None:
        await self._set_lock_timeout(lock_timeout)
        try:
            await self._send(statement)
        finally:
            if not self.session.closed:
                await self._set_lock_timeout("0")

    async def _set_lock_timeout(self, value: str) -> None:
        async with self.session.conn.cursor() as cursor:
            await cursor.execute("select pg_catalog.set_config('lock_timeout', %s, false)", (value,))

    async def _send(self, statement: sql.Composed | sql.SQL) -> None:
        async with self.session.conn.cursor() as cursor:
            await cursor.execute(statement)

    async def cancel_from_here(self) -> None:
        """Ask the server to cancel on a connection of its own (TLS like ours): for when the observer is lost."""
        await self.session.conn.cancel_safe(timeout=5)

    async def close(self) -> None:
        """End the session, and with it the lock. A statement that still runs is cancelled."""
        await self.session.close()


def main() -> int:
    """Read the job from stdin, let go of whoever started us, carry the change out. Exit status 0, or 3 with a message.

    What is printed is one JSON object, once the process that stays has its connections: its id, or the error.
    """
    forbid_core_dumps()
    from indexpilot_tui.engine.changes.drive import carry_out
    from indexpilot_tui.settings.validated import validated_json

    job = validated_json(Job, sys.stdin.read())

    theirs, ours = os.pipe()
    if os.fork():
        os.close(ours)
        with os.fdopen(theirs) as answer:
            sys.stdout.write(answer.read() or json.dumps({"error": "it ended at once"}))
        sys.stdout.flush()
        os._exit(0)
    os.close(theirs)
    os.setsid()
    _let_go()

    def ready(error: str | None) -> None:
        os.write(ours, json.dumps({"pid": os.getpid()} if error is None else {"error": error}).encode())
        os.close(ours)

    status: int = asyncio.run(carry_out(job, ready))
    return status


def _let_go() -> None:
    """No pipe of the console's stays open here, and no terminal."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def outcome_of(exc: BaseException | None) -> dict[str, Any]:
    """The outcome row of a statement: ok, or SQLSTATE and the server's message. DETAIL holds row values: left out."""
    if exc is None:
        return {"ok": True}
    sqlstate = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    primary = exc.diag.message_primary if isinstance(exc, psycopg.Error) and exc.diag else None
    return {"ok": False, "sqlstate": sqlstate, "message": clean_line(primary or str(exc) or type(exc).__name__, 300)}


if __name__ == "__main__":
    sys.exit(main())
