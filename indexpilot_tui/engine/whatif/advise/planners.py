"""The planners that an advice asks, side by side: the shadow's own, and one more on a copy of its database.

An EXPLAIN depends on the statement and on the candidates that are shown, not on which planner answers it; whoever asks for
several things at once takes care that what is learned does not depend on which answer comes first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from indexpilot_tui.engine.whatif.advise.lane import Lane, Question, Told

T = TypeVar("T")


class Planners:
    """`lanes` are those that may be asked; each answers one question at a time."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._busy: set[Lane] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def _free(self, wanted: int) -> AsyncIterator[Lane]:
        """A planner for oneself: the one that shows most of what is wanted already."""
        while len(self._busy) >= len(self.lanes):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        free = [lane for lane in self.lanes if lane not in self._busy]
        lane = min(free, key=lambda x: (x.shown ^ wanted).bit_count())
        self._busy.add(lane)
        try:
            yield lane
        finally:
            self._busy.discard(lane)
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break

    async def one(self, question: Question, wanted: int) -> Told:
        """What is said of a statement with exactly these candidates in sight (a mask). Raises psycopg.Error."""
        async with self._free(wanted) as lane:
            await lane.show(wanted)
            return await lane.explain(question)

    async def each(self, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Do something with every item, as many at once as there are planners. When one fails (or this is cancelled), the
        others end before this does."""
        left = iter(items)

        async def worker() -> None:
            for item in left:
                await work(item)

        if len(self.lanes) == 1:
            return await worker()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in self.lanes:
                    group.create_task(worker())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
