"""What is asked beside the refresh, on sessions of its own and seldom: the use of indexes on standbys, and estimates of
bloat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from indexpilot_tui.engine.bloat import modelled
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.observe.indexes.bloat import MIN_BYTES
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.standby_use import ask_standbys
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.session import Facts, Session
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings, Target

STANDBYS_S = 300.0
BLOAT_S = 60.0  # one batch of tables
BLOAT_AGAIN_S = 6 * 3600.0  # an index whose size has not changed much is modelled again after this
BATCH = 10
FIRST_S = 10.0  # nothing of this is for the first screen

MonitorSession = Callable[[], AbstractAsyncContextManager[Session]]


@dataclass(slots=True)
class Aside:
    """Runs what is due, one at a time, never in the way of a refresh. `close` ends what runs."""

    target: Target
    settings: Settings
    watcher: Watcher
    monitor: MonitorSession
    _standbys_due: float = field(default_factory=lambda: time.monotonic() + FIRST_S)
    _bloat_due: float = field(default_factory=lambda: time.monotonic() + FIRST_S)
    _modelled: dict[int, tuple[float, int]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def tick(self, facts: Facts) -> None:
        """Begin what is due, if nothing runs."""
        if self._task is not None and not self._task.done():
            return
        now = time.monotonic()
        if self.target.standbys and not facts.in_recovery and now >= self._standbys_due:
            self._standbys_due = now + STANDBYS_S
            self._task = asyncio.create_task(self._standbys(facts))
        elif now >= self._bloat_due:
            self._bloat_due = now + BLOAT_S
            wanted = self._next_to_model(now)
            if wanted:
                self._task = asyncio.create_task(self._bloat(wanted, now))

    async def _standbys(self, facts: Facts) -> None:
        self.watcher.note_standbys(await ask_standbys(self.target, self.settings, facts))

    def _next_to_model(self, now: float) -> list[IndexFacts]:
        """The largest B-trees that were not modelled lately, of a few tables."""
        due = [
            f
            for f in self.watcher.index_facts
            if f.method == "btree" and f.usable and (f.size_bytes or 0) >= MIN_BYTES and self._stale(f, now)
        ]
        due.sort(key=lambda f: -(f.size_bytes or 0))
        tables = list(dict.fromkeys(f.table_oid for f in due))[:BATCH]
        return [f for f in due if f.table_oid in tables]

    def _stale(self, index: IndexFacts, now: float) -> bool:
        at, size = self._modelled.get(index.oid, (-BLOAT_AGAIN_S, 0))
        grown = abs((index.size_bytes or 0) - size) > 0.2 * max(size, 1)
        return now - at >= BLOAT_AGAIN_S or (grown and now - at >= STANDBYS_S)

    async def _bloat(self, indexes: list[IndexFacts], now: float) -> None:
        for index in indexes:
            self._modelled[index.oid] = (now, index.size_bytes or 0)
        try:
            async with self.monitor() as session:
                found = await modelled(session, indexes)
        except IndexPilotError as exc:
            log("bloat", "warning", target=self.target.name, error=exc.message)
            return
        self.watcher.note_bloat(found)

    async def close(self) -> None:
        """End what runs."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
