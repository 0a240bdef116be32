"""What a running build does to the server, looked at on a session of its own so that no quick guard waits for it.

Twice in a row past a limit, one interval apart, ends the build; so do two looks in a row that could not be had: a guard that
cannot read its figures is none. Only while the build works: while it waits for others, load is not its doing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import psycopg

from indexpilot_tui.engine.changes.catalog import Backend, question
from indexpilot_tui.engine.changes.guard import Stop
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.observe.signals import SignalReader
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.critical import Sign, cpu_signs, lag_signs, load_signs, write_signs
from indexpilot_tui.engine.safeguards.table_writes import (
    Counts,
    Facts,
    Statements,
    between,
    counts_of,
    facts_of,
    statements_of,
)
from indexpilot_tui.errors import IndexPilotError

WORKING = ("building index", "index validation")  # phases of pg_stat_progress_create_index
LOOK_S = 4.0
IDLE_S = 0.5  # how often it is looked whether the build has begun to work
# what "could not be read" looks like: the server's refusals, a lost session, a time-out, a NULL or a missing field
_BROKEN = (IndexPilotError, psycopg.Error, TimeoutError, OSError, ValueError, TypeError, KeyError, AttributeError)


@dataclass(slots=True)
class Pressure:
    """One build's. `phase` is set by whoever watches it, who asks for `verdict`."""

    work: Work
    backend: Backend
    phase: str = ""
    _stop: Stop | None = None
    _seen: dict[str, Sign] = field(default_factory=dict)  # by the look before
    _session: Session | None = None
    _signals: SignalReader = field(default_factory=SignalReader)
    _known: tuple[Facts, Statements] | None = None
    _counts: Counts | None = None
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; `close` ends it."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the looking. A defect of ours that ended it before is told; what follows the build goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled() and (defect := self._task.exception()) is not None:
                self.work.hold.later("pressure", {"why": f"the guard ended: {type(defect).__name__}: {defect}"[:300]})
        if self._session is not None:
            await self._session.close()

    @property
    def verdict(self) -> Stop | None:
        """Why the build has to stop now. Nothing stops one that only waits; a guard that has died sees nothing."""
        if not self.phase.startswith(WORKING):
            return None
        if self._stop is None and self._task is not None and self._task.done():
            why = "the guard that looks at load and writers has ended"
            self._stop = Stop("pressure", "not measured", "", why, True)
        return self._stop

    async def _run(self) -> None:
        interval = self.work.settings.production_safeguards.critical_load.interval_seconds
        while self._stop is None:
            if self.phase.startswith(WORKING):
                self._judge(await self._look())
                await asyncio.sleep(interval)
            else:
                self._seen, self._counts = {}, None
                await asyncio.sleep(min(IDLE_S, interval))

    async def _look(self) -> list[Sign]:
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._signs()
        except _BROKEN as exc:
            why = f"no answer within {LOOK_S:g} s" if isinstance(exc, TimeoutError) else clean_line(str(exc), 200)
            return [Sign("pressure", "not measured", "", f"what the build does to the server could not be read: {why}")]

    def _judge(self, signs: list[Sign]) -> None:
        found = {sign.guard: sign for sign in signs}
        for guard, sign in found.items():
            if guard in self._seen:
                self._stop = Stop(guard, sign.value, sign.limit, f"{sign.sentence}, seen twice", True)
                return
            detail = {"guard": guard, "value": sign.value, "limit": sign.limit, "why": sign.sentence}
            self.work.hold.later("pressure", detail)
        self._seen = found

    async def _signs(self) -> list[Sign]:
        guards = self.work.settings.production_safeguards
        session = await self._eye()
        self._signals.asker.forget()
        seen = await self._signals.read(session)
        signs = load_signs(seen.pulse, guards.critical_load)
        signs += await self._cpu(session)
        if guards.replicas.enabled:
            if seen.replication is None or seen.replication.unread:
                raise ValueError("how far the standbys are behind could not be read")
            signs += lag_signs(seen.replication.standbys, guards.replicas)
        return signs + await self._writes(session, seen.rates.xacts)

    async def _cpu(self, session: Session) -> list[Sign]:
        policy, target = self.work.settings.production_safeguards.cpu_throttle, self.work.target
        if policy.enabled is False:
            return []
        if policy.metric is not None:
            metrics = self.work.memory.metrics(self.work.settings, target)
            return cpu_signs(await metrics.number(policy.metric, session.facts), f"metric {policy.metric}", policy)
        if target.cores is None:
            return []
        row = await session.row(question("others_on_cpu", session), {"pid": self.backend.pid})
        if row is None:
            raise ValueError("the server does not tell who is on CPU")
        others = int(row["on_cpu"])
        return cpu_signs(100 * others / target.cores, f"{others} other sessions on {target.cores} cores", policy)

    async def _writes(self, session: Session, xacts: float | None) -> list[Sign]:
        """Between two looks; the first one of a phase has nothing to compare with."""
        policy = self.work.settings.production_safeguards.write_performance
        if not policy.enabled:
            return []
        if self._known is None:
            self._known = await facts_of(session, self.work.plan), await statements_of(session, self.work.plan)
        facts, statements = self._known
        if statements.unavailable:
            return []  # as for the gate, which says so and lets no production start
        earlier, self._counts = self._counts, await counts_of(session, facts, statements)
        if earlier is None:
            return []
        return write_signs(between(earlier, self._counts), xacts, self.work.memory.before, policy)

    async def _eye(self) -> Session:
        if self._session is None or self._session.closed:
            self._session = await connect(
                self.work.target, Purpose.OBSERVER, self.work.settings, application_name=f"ixp-eye:{self.work.change.id}"
            )
        return self._session
