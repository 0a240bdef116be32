"""A second database with the same structure, statistics, sizes and candidates, for a second planner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from psycopg import sql

from indexpilot_tui.engine.whatif.advise.lane import Lane
from indexpilot_tui.engine.whatif.advise.making import make
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.sizing import apply, link_file, point
from indexpilot_tui.errors import LocalServerError

Sized = tuple[MadeIndex, int, int, float]  # of the first database: index, its file, pages, rows


class Twin:
    """It follows what happens to the first one in a task of its own, one thing after the other; `ready` waits for that."""

    def __init__(self, server: ShadowServer, first: ShadowDatabase) -> None:
        self._server, self._first = server, first
        self._database: ShadowDatabase | None = None
        self._lane: Lane | None = None
        self._made: dict[tuple[str, str], MadeIndex] = {}
        self._last: asyncio.Task[None] = asyncio.create_task(self._open())

    async def _open(self) -> None:
        snapshot = self._first.snapshot
        self._database = await self._server.spare(snapshot)
        await apply(self._database, snapshot)
        self._lane = Lane(self._database)

    @property
    def lane(self) -> Lane:
        if self._lane is None:
            raise LocalServerError("the second planner is not there", remedy="try again")
        return self._lane

    def _then(self, work: Callable[[], Awaitable[None]]) -> None:
        before = self._last

        async def after() -> None:
            await before
            await work()

        self._last = asyncio.create_task(after())

    def make(self, statements: Mapping[str, sql.Composed], tables: Sequence[int]) -> None:
        """Make the same candidates. `tables` are OIDs of the first database."""
        found = set(tables)
        wanted = [o for o, s in self._first.oids.items() if s in found]

        async def work() -> None:
            shadow = self.lane.shadow
            made, _ = await make(shadow, statements, [shadow.oids[o] for o in wanted if o in shadow.oids])
            self._made.update({(m.schema, m.name): m for m in made})

        self._then(work)

    def size(self, sized: Sequence[Sized], members: Sequence[Sequence[MadeIndex]]) -> None:
        """Give them the same files. `members`: the indexes of each new candidate, as they are in the first database."""

        async def work() -> None:
            lane, shadow = self.lane, self.lane.shadow
            by_oid = {s: t for t, s in shadow.oids.items()}
            rows = []
            for first, file, pages, tuples in sized:
                mine = self._like(first)
                if any(a.column == 0 for a in mine.attributes):
                    await derive(shadow, mine, shadow.snapshot.relations[by_oid[mine.table_oid]])
                rows.append((mine.oid, link_file(self._first, file, shadow), pages, tuples, 0))
            if rows:
                await point(shadow, rows)
            lane.oids += [tuple(self._like(m).oid for m in some) for some in members]

        self._then(work)

    def _like(self, first: MadeIndex) -> MadeIndex:
        """The same index here."""
        found = self._made.get((first.schema, first.name))
        if found is None:
            raise LocalServerError("the second planner's database is not like the first one", remedy="try again")
        return found

    async def ready(self) -> Lane:
        """The planner, when it has everything that the first one has. Raises what went wrong."""
        await self._last
        return self.lane

    async def close(self) -> None:
        """Take the database away."""
        self._last.cancel()
        await asyncio.gather(self._last, return_exceptions=True)
        if self._database is not None:
            self._server.retire(self._database)
