"""The facade: everything that the console, `--check` and the verbs may ask of a target. Nobody reaches past it.

observe / simulate / propose / approve / apply / rollback, each through the same safeguards whoever asks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexpilot_tui.engine import logs
from indexpilot_tui.engine.aside import Aside
from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.forecasting import Forecasting
from indexpilot_tui.engine.gauges.board import Board
from indexpilot_tui.engine.journal.journal import Bypass
from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack
from indexpilot_tui.engine.observe.blocking_model import Blocking
from indexpilot_tui.engine.observe.blocking_read import BlockingReader
from indexpilot_tui.engine.observe.model import IndexDetail, Observation, QueryDetail
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.observe.optional.model import Extras
from indexpilot_tui.engine.observe.optional.reader import OptionalReader
from indexpilot_tui.engine.observe.pace import Pace
from indexpilot_tui.engine.postgres.foresight import Foresight
from indexpilot_tui.engine.postgres.pool import MonitorPool
from indexpilot_tui.engine.postgres.session import Facts, Purpose, SentStatement, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.recording import Recorder
from indexpilot_tui.errors import IndexPilotError, RefusedError, UsageError
from indexpilot_tui.settings.model import Settings, Target

if TYPE_CHECKING:
    from indexpilot_tui.engine.deeds import Deeds
    from indexpilot_tui.engine.whatif.advise.advisor import Options
    from indexpilot_tui.engine.whatif.advise.model import Advice
    from indexpilot_tui.engine.whatif.model import Forecast, Statement

COMMAND_LOG = 2_000  # statements kept for the command log
GATES_OPERATING_S, GATES_LOOKING_S = 6.0, 30.0  # how old the verdicts of the throttle pane may be


class Engine:
    """One target, looked at and changed through one set of safeguards.

    `operate` False: a read-only console, every change is refused. `second_login` is another login that stands by for
    approvals (the demo has one); with it one person can walk the whole way, and the log still has two names.
    """

    def __init__(self, target: Target, settings: Settings, *, operate: bool, second_login: Target | None) -> None:
        self.target, self.settings, self.operate = target, settings, operate
        self.sent: deque[SentStatement] = deque(maxlen=COMMAND_LOG)
        self.notices: list[str] = []  # what was found and mended, oldest first
        self.watcher = Watcher(settings, target.cores)
        self._aside = Aside(target, settings, self.watcher, self.monitor)
        self._pool = MonitorPool(target, settings, self.sent.append)
        self._control = Control(target, settings, self.sent.append, second_login)
        self._forecasting = Forecasting(self.monitor, self._control)
        self._board = Board(target, settings, self._control.memory)
        self._watch: Session | None = None
        self._facts: Facts | None = None
        self._last: Observation | None = None
        self._bundle: Session | None = None
        self._observing = asyncio.Lock()
        self._recorder = Recorder(settings.operational.recording)
        self._foresight = Foresight()
        self._blocking = BlockingReader()
        self._optional = OptionalReader()
        self._gates_pace = Pace(GATES_OPERATING_S if operate else GATES_LOOKING_S, 1.0)
        self._tidied = time.monotonic()

    @classmethod
    async def open(
        cls, target: Target, settings: Settings, *, operate: bool = False, second_login: Target | None = None
    ) -> Engine:
        """Connect. Raises ConnectError when the target cannot be reached; a missing control schema is no error here:
        `control_reason` tells, and changes are refused."""
        engine = cls(target, settings, operate=operate, second_login=second_login)
        try:
            engine._watch = await connect(target, Purpose.MONITOR, settings, sink=engine.sent.append)
            engine._facts = engine._watch.facts
            await engine._control.open()
            if operate:
                await engine._tidy()
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _tidy(self, *, orphans_only: bool = False) -> None:
        """Bring changes whose executor is gone to their right end. Failing at it must not keep an operator out.

        `orphans_only`: look no further when every lease is alive (for the regular look of a console that runs).
        """
        self._tidied = time.monotonic()
        journal = self._control.journal
        if journal is None or not journal.may_operate:
            return
        try:
            if orphans_only and not await journal.orphans():
                return
            found = await self._deeds.reconcile()
        except IndexPilotError as exc:
            found = [f"interrupted changes could not be looked after: {clean_line(exc.message, 300)}"]
        if not orphans_only:
            await self._control.retain()
        for notice in found:
            if self._notice(notice):
                logs.log("reconcile", "warning", target=self.target.name, found=notice)

    def _notice(self, text: str) -> bool:
        """Tell the operator, once; whether it is news."""
        news = bool(text) and text not in self.notices
        if news:
            self.notices.append(text)
        return news

    @classmethod
    def offline(cls, path: Path, settings: Settings) -> Engine:
        """On a bundle in place of a server: it forecasts, and observes and changes nothing. Raises UsageError."""
        from indexpilot_tui.engine.whatif.bundle.file import read_bundle
        from indexpilot_tui.engine.whatif.bundle.session import BundleSession

        bundle = read_bundle(path)
        engine = cls(Target(name=f"bundle {bundle.name}"), settings, operate=False, second_login=None)
        engine._bundle = session = BundleSession(bundle)
        session.sink, engine._facts = engine.sent.append, session.facts
        return engine

    async def close(self) -> None:
        """End every session and the shadow. A running build goes on: its executor is a process of its own."""
        await self._forecasting.close()
        await self._aside.close()
        await self._recorder.close()
        await self._pool.close()
        await self._control.close()
        if self._watch is not None:
            await self._watch.close()

    # --- what is known of the target -------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Of the newest monitor session."""
        if self._facts is None:
            raise RefusedError("the engine is not open")
        return self._facts

    @property
    def control_available(self) -> bool:
        return self._control.journal is not None

    @property
    def control_reason(self) -> str:
        """Why there are no changes to see here; empty when they can be read (`operate` says whether one may be made)."""
        return self._control.reason

    @property
    def can_approve_alone(self) -> bool:
        return self._control.second_login is not None

    @property
    def control(self) -> Control:
        return self._control

    @property
    def _deeds(self) -> Deeds:
        from indexpilot_tui.engine.deeds import Deeds

        return Deeds(self._control)

    @property
    def next_delay(self) -> float:
        """Seconds until the next refresh should come (wider when looking costs more than its budget)."""
        return self.watcher.next_delay

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[Session]:
        """A read-only session of the monitor pool; offline, the one that answers from the bundle."""
        if self._bundle is not None:
            yield self._bundle
            return
        async with self._pool.session() as session:
            yield session

    # --- observe ---------------------------------------------------------------------------------------------------

    async def observe(self) -> Observation:
        """One refresh. A lost server is no exception: the last data comes back with its age and `error`."""
        async with self._observing:
            try:
                if self._watch is None or self._watch.closed:
                    self._watch = await connect(self.target, Purpose.MONITOR, self.settings, sink=self.sent.append)
                    self._facts = self._watch.facts
            except IndexPilotError as exc:
                if self._last is None:
                    raise
                return replace(self._last, error=clean_line(exc.message, 300))
            self._last = await self.watcher.refresh(self._watch)
            self._board.take(self._last)
            if (signals := self._last.signals) and signals.pulse.in_recovery != self._watch.facts.in_recovery:
                await self._watch.close()  # promoted: the next reading asks anew what this server is
            if not self._last.error:
                self._aside.tick(self._watch.facts)
            if self.operate:
                self._recorder.tick(self._control.journal, self.facts, self._last)
            lease = self.settings.production_safeguards.observer.lease_seconds
            if self.operate and time.monotonic() - self._tidied >= lease:
                # a frozen executor holds up whoever queues behind its build until somebody takes over
                await self._tidy(orphans_only=True)
            self._notice(logs.trouble())
            return self._last

    async def query_detail(self, queryid: int) -> QueryDetail:
        """Totals and history of one statement of the hotspots."""
        return self.watcher.detail(queryid)

    async def index_detail(self, oid: int, *, count: bool = False) -> IndexDetail:
        """One index by itself: its definition, and how much of it is air. `count`: pgstattuple reads all of it, where it
        may."""
        from indexpilot_tui.engine.bloat import detail

        facts = next((f for f in self.watcher.index_facts if f.oid == oid), None)
        if facts is None:
            raise UsageError("this index is not there any more", field="index", value=str(oid), remedy="look again")
        async with self.monitor() as session:
            found, bloat = await detail(session, facts, count=count)
        self.watcher.note_bloat({oid: bloat})
        return found

    def mark(self, at: datetime | None = None) -> datetime | None:
        """From here on (None: now) changes of the hotspots are looked for; gives the moment, where there is one yet."""
        return self.watcher.mark(at)

    def look_at_databases(self) -> None:
        self.watcher.look_at_databases()

    async def plans(self, queryid: int) -> tuple[tuple[tuple[str, dict[str, Any]], ...], str]:
        """The plans of one statement of the hotspots, and why there are none or no more; nothing of it is executed."""
        from indexpilot_tui.engine.changes.plan_shapes import plans_of

        return await plans_of(self.target, self.settings, self.watcher.detail(queryid).raw_query)

    async def blocking(self) -> Blocking:
        """Who waits for whom now, who holds what, and what runs; asked for each time."""
        async with self.monitor() as session:
            return await self._blocking.read(session)

    async def gauges(self) -> tuple[Gauge, ...]:
        """The raw signals of the newest refresh, each with its limit, age and past; and the metrics, asked where due."""
        return await self._board.read(self.facts)

    async def extras(self, queryid: int | None) -> Extras:
        """What pg_stat_kcache and pg_wait_sampling tell of a statement (None: of the server's waits), where they are."""
        async with self.monitor() as session:
            return await self._optional.read(session, queryid)

    @property
    def throttle_due(self) -> bool:
        """Whether the gates should be evaluated again for the pane: often where changes can be made, less where only
        looked."""
        return self._gates_pace.ready(time.monotonic())

    async def throttle(self) -> list[Verdict]:
        """The target-wide gates, evaluated now, for the pane. Before a deed they are asked anew, each in its own time."""
        async with self.monitor() as session, self._foresight.over(session) as quick:
            verdicts = await self._control.gates(quick)
        self._gates_pace.asked(time.monotonic(), 0.0, 1.0)
        return verdicts

    async def bypass(self) -> Bypass | None:
        """What an emergency lifts now, for the banner of every screen."""
        return await self._control.bypass()

    # --- forecast --------------------------------------------------------------------------------------------------

    async def simulate(
        self, ddl: str, statements: Sequence[Statement] | None = None, *, backend: str = "auto", cross_check: bool = False
    ) -> Forecast:
        """Forecast one CREATE or DROP INDEX on `statements`, else on those of pg_stat_statements that touch the table.
        `backend` and `cross_check` as in Simulator.simulate."""
        return await self._forecasting.simulate(ddl, statements, backend=backend, cross_check=cross_check)

    async def advise(self, statements: Sequence[Statement] | None = None, options: Options | None = None) -> Advice:
        """Recommend a set of indexes for `statements`, else for the busiest of pg_stat_statements."""
        return await self._forecasting.advise(statements, options)

    async def candidates(self, queryid: int) -> list[str]:
        """Index statements worth forecasting for one statement of the hotspots; may be empty."""
        return await self._forecasting.candidates(self.watcher.detail(queryid).raw_query)

    # --- change ----------------------------------------------------------------------------------------------------

    def _unlocked(self) -> Deeds:
        if not self.operate:
            raise RefusedError("this console is read-only", remedy="start it with --operate to unlock changes")
        return self._deeds

    async def gates(self, ddl_or_change: str | Change) -> list[Verdict]:
        """Every gate for a statement or a change, evaluated now."""
        async with self.monitor() as session:
            return await self._control.gates(session, ddl_or_change)

    async def propose(self, ddl: str, reason: str) -> Change:
        deeds = self._unlocked()
        async with self.monitor() as session:
            return await deeds.propose(session, ddl, reason)

    async def approve(self, change_id: int) -> Change:
        """Approve as this login, or as the second login where one stands by."""
        return await self._unlocked().approve(change_id)

    async def reject(self, change_id: int, reason: str) -> Change:
        return await self._unlocked().reject(change_id, reason)

    async def withdraw(self, change_id: int, reason: str) -> Change:
        return await self._unlocked().withdraw(change_id, reason)

    async def apply(self, change_id: int) -> Change:
        """Ask the gates, then hand the change to an executor process; returns at once. RefusedError names the gates."""
        deeds = self._unlocked()
        async with self.monitor() as session:
            return await deeds.apply(session, change_id)

    async def abort(self, change_id: int, reason: str) -> Change:
        """Ask the executor to stop; it cancels, cleans up and says so in the log."""
        return await self._unlocked().abort(change_id, reason)

    async def rollback(self, change_id: int, reason: str) -> Change:
        """Propose the way back as a change of its own (covered by the first one's approval for a day) and start it."""
        deeds = self._unlocked()
        async with self.monitor() as session:
            return await deeds.rollback(session, change_id, reason)

    @property
    def may_carry_out(self) -> bool:
        """Whether this login may start an executor."""
        journal = self._control.journal
        return self.operate and journal is not None and journal.may_operate

    def carries_on(self, change: Change) -> bool:
        """Whether this engine has just had an executor take the change over, so that there is nothing more to start."""
        return not change.ended and any(notice.startswith(f"change {change.id} (") for notice in self.notices)

    async def resolve(self, change_id: int, choice: str, reason: str) -> Change:
        """Settle a change that needs an operator, as an approver who neither proposed nor ran it: finish, repair, clean,
        verify, fail or done. Where this login may operate, what was decided is carried out at once."""
        return await self._unlocked().resolve(change_id, choice, reason)

    async def way_back(self, change_id: int) -> WayBack:
        """How a change would be taken back now: what was saved, what it costs, the steps, the proof. Nothing is written."""
        from indexpilot_tui.engine.changes.guide_cost import cost_of_return

        async with self.monitor() as session:
            back = await self._deeds.way_back(session, change_id)
            if back.kind != "create" or not back.statements:
                return back
            change = await self._control.change(change_id)
            simulator = await self._forecasting.shadow()
            return replace(back, cost=await cost_of_return(session, simulator, change, back.statements[0]))

    async def rehearse(self, change_id: int) -> Rehearsal:
        """Carry the rollback of a change out on the shadow, compare, and record the result in the change's log. Nothing is
        written to the target."""
        simulator = await self._forecasting.shadow()
        async with self.monitor() as session:
            return await self._deeds.rehearse(session, simulator.server, change_id)

    async def keep(self, change_id: int) -> Change:
        """End the observation of a change: it stays."""
        return await self._unlocked().keep(change_id)

    async def change(self, change_id: int) -> Change:
        """One change; of one that is observed or done, also what the catalog says now of its index."""
        from indexpilot_tui.engine.changes.standing import asked

        return await asked(self.monitor, await self._control.change(change_id))

    async def changes(self, limit: int = 50) -> list[Change]:
        return await self._control.changes(limit)

    async def reconcile(self) -> list[str]:
        """Bring every change whose executor is gone to where the catalog says it is; what was done, one line each."""
        return await self._unlocked().reconcile()

    @property
    def now(self) -> datetime:
        """Our clock; figures from the target carry the target's."""
        return datetime.now(UTC)
