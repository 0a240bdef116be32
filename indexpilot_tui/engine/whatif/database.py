"""One database of the shadow: its three connections, and the map from the target's objects to its own.

Three roles work in it. Everything whose text comes from the target runs as an ordinary role without powers, one statement
of the extended protocol at a time; values of statistics that only a catalog takes are written by a role that owns nothing;
our own statements (files, switches in catalog rows) run as superuser, and hold nothing that came from outside but names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, dict_row

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import restore
from indexpilot_tui.engine.whatif.snapshot import Function, Snapshot
from indexpilot_tui.localpg import LocalCluster

ROLE = "planner"  # without powers; owns the databases
_SHOWN = 5  # functions that a reason names
SCRIBE = "scribe"  # owns nothing; writes statistics through the views of CATALOGS
CATALOGS = "indexpilot_catalogs"


@dataclass(slots=True)
class ShadowDatabase:
    """One restored snapshot. `oids` maps the target's OIDs of relations and indexes to the shadow's.

    `power` is the superuser's connection, for our own statements alone; `plain` the one that runs what the target said;
    `scribe` writes statistics where that takes a catalog. `issues` (cleaned) name what could not be restored.
    """

    name: str
    cluster: LocalCluster
    power: AsyncConnection[TupleRow]
    plain: AsyncConnection[TupleRow]
    scribe: AsyncConnection[TupleRow]
    snapshot: Snapshot
    oids: dict[int, int] = field(default_factory=dict)
    empty_files: dict[int, int] = field(default_factory=dict)  # shadow OID -> relfilenode as created, an empty file
    database_oid: int = 0
    issues: list[str] = field(default_factory=list)
    stand_ins: list[Function] = field(default_factory=list)  # functions of the target that do not run here
    applied_sizes: dict[int, object] = field(default_factory=dict)
    applied_statistics: str = ""
    applied_settings: tuple[tuple[str, str], ...] = ()
    next_file: int = 3_000_000_000  # far above what the server's own counter reaches; ours never collide with it
    plans: dict[str, Any] = field(default_factory=dict)  # EXPLAIN results of the state without any change
    search_path: tuple[str, ...] = ()
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    spoilt: bool = False  # a forecast was cut short (cancelled, or failed): its state is not certain, do not use it again

    @property
    def unprivileged(self) -> list[AsyncConnection[TupleRow]]:
        """The sessions that see what came from outside."""
        return [self.plain, self.scribe]

    @property
    def usable(self) -> bool:
        return not (self.spoilt or self.power.closed or any(conn.closed for conn in self.unprivileged))

    def told(self) -> list[str]:
        """What a forecast says of how it was made (cleaned): which functions of the target ran here, and which did not."""
        without = {f.oid for f in self.stand_ins}
        for_real = [f for f in self.snapshot.functions if f.oid not in without]
        told = []
        for functions, what in ((self.stand_ins, "only stand in here for the target's"), (for_real, "are made as they are")):
            names = sorted({clean_line(f"{f.schema}.{f.name}") for f in functions})
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            if names:
                told.append(f"functions that {what}: {', '.join(names[:_SHOWN])}{more}")
        return told

    async def rows(self, query: str | sql.Composed, params: Any = None) -> list[dict[str, Any]]:
        """Our own statement, as superuser."""
        async with self.power.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query if not isinstance(query, str) else query.encode(), params)
            return await cursor.fetchall() if cursor.description is not None else []

    async def foreign(self, statement: sql.Composed) -> None:
        """Something that the target said: as the role without powers, and one statement only (extended protocol)."""
        async with self.plain.cursor(binary=True) as cursor:
            await cursor.execute(statement)

    async def plainly(self, query: str | sql.Composed, params: Any = None) -> list[dict[str, Any]]:
        """Our own statement with values from outside, as the role without powers."""
        async with self.plain.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query if not isinstance(query, str) else query.encode(), params)
            return await cursor.fetchall() if cursor.description is not None else []

    async def catalog(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """Our own statement with values from outside, through the views of the catalogs of statistics."""
        async with self.scribe.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), params)
            return await cursor.fetchall() if cursor.description is not None else []

    async def step(self, step: restore.Step, *, last: bool = True) -> bool:
        """Run one step of the restoration; False, with an issue when it is the last try, if it failed."""
        if step.statement is None:
            if last or step.quiet:  # quiet or not: that a text was refused is told, once
                self.issues.append(f"{step.what}: left out ({step.refused})")
            return False
        try:
            await self.foreign(step.statement)
        except psycopg.Error as exc:
            reason = clean_line(exc.diag.message_primary or str(exc), 200)
            if step.fallback is not None:
                try:
                    await self.foreign(step.fallback)
                except psycopg.Error as second:
                    reason = clean_line(second.diag.message_primary or str(second), 200)
                else:
                    self.issues.append(f"{step.what}: restored {step.without} ({reason})")
                    return True
            if last and not step.quiet:
                self.issues.append(f"{step.what}: left out ({reason})")
            return False
        return True

    async def tried(self, steps: list[restore.Step]) -> list[restore.Step]:
        """Run steps that may depend on each other in any order: try again as long as that gets further. The ones that
        failed."""
        while steps:
            failed = [s for s in steps if not await self.step(s, last=False)]
            if len(failed) == len(steps):
                break
            steps = failed
        else:
            return []
        return steps

    async def steps(self, steps: list[restore.Step]) -> None:
        """Run steps that may depend on each other; what fails in the end is an issue."""
        for step in await self.tried(steps):
            await self.step(step)

    async def close(self) -> None:
        for conn in self.unprivileged:
            await conn.close()
        await self.power.close()
