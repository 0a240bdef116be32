"""The journal session of this console, and the gates. What an operator does with them is in `deeds`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from indexpilot_tui.engine.changes.job import control_target
from indexpilot_tui.engine.journal.journal import Bypass, Journal
from indexpilot_tui.engine.journal.retention import retain
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.model.change import Change, Plan
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.postgres.session import Purpose, Session, Sink, connect
from indexpilot_tui.engine.safeguards import gates
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.errors import IndexPilotError, NotInstalledError
from indexpilot_tui.settings.model import Settings, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from indexpilot_tui.engine.model.estimate import BuildEstimate

LOOK_AGAIN_S = 30.0


class Control:
    """This console's hold on the control schema of one target. `journal` is None, with the `reason`, where there is none."""

    def __init__(self, target: Target, settings: Settings, sink: Sink, second_login: Target | None) -> None:
        self.target, self.settings, self.second_login = target, settings, second_login
        self.journal: Journal | None = None
        self.reason = "the control schema has not been looked for yet"
        self.sink = sink
        self._previous: dict[str, tuple[Verdict, ...]] = {}
        self.memory = Memory()  # of the gates; what they have read is there for others, too
        self._looked = 0.0

    async def open(self) -> None:
        """Look for the control schema. A missing, foreign or unreadable one is told by `reason`, and blocks changes."""
        try:
            session = await connect(
                control_target(self.target, self.settings), Purpose.CONTROL, self.settings, sink=self.sink
            )
        except IndexPilotError as exc:
            self.reason = str(exc)
            return
        try:
            self.journal = await Journal.open(session, self.settings.control)
            self.reason = ""
        except IndexPilotError as exc:
            await session.close()
            self.reason = str(exc)
        except BaseException:
            await session.close()
            raise

    async def close(self) -> None:
        journal, self.journal = self.journal, None
        if journal is not None:
            await journal.close()

    async def require(self) -> Journal:
        """The journal, opened again if its session was lost. Raises NotInstalledError with the reason."""
        if self.journal is not None and self.journal.session.closed:
            await self.close()
        if self.journal is None:
            await self.open()
        if self.journal is None:
            raise NotInstalledError(f"changes are not possible: {self.reason}")
        return self.journal

    async def _reading(self) -> Journal | None:
        """For the panes: the journal if it can be had; the gates say `unknown` without it. A control schema that was not
        there is not looked for at every reading: each look is a new session."""
        if self.journal is None and time.monotonic() < self._looked + LOOK_AGAIN_S:
            return None
        self._looked = time.monotonic()
        try:
            return await self.require()
        except NotInstalledError:
            return None

    # --- gates -----------------------------------------------------------------------------------------------------

    async def gates(self, session: Session, subject: str | Change | None = None) -> list[Verdict]:
        """All gates for a statement or a change; the target-wide ones without a subject."""
        journal = await self._reading()
        change = subject if isinstance(subject, Change) else None
        plan: Plan | None = change.plan if change else None
        if isinstance(subject, str):
            from indexpilot_tui.engine.changes import planning
            from indexpilot_tui.engine.postgres.ddl import parse_index_statement

            plan = await planning.make_plan(session, parse_index_statement(subject), self.settings)
        parent = await journal.change(change.parent_id) if journal and change and change.parent_id else None
        estimate: Callable[[], Awaitable[BuildEstimate]] | None = None
        if plan is not None:  # the panes' own gates have no plan, and need none of what makes one
            from indexpilot_tui.engine.changes.estimate import estimator
            from indexpilot_tui.engine.changes.planning_parts import judged

            plan = judged(plan)
            estimate = estimator(session, plan, lambda: self.builds(session))
        key = plan.sha256 if plan else ""
        verdicts = await gates.evaluate(
            GateContext(
                target=self.target,
                settings=self.settings,
                session=session,
                now=await gates.database_now(session),
                journal=journal,
                plan=plan,
                change=change,
                parent=parent,
                rollback=parent is not None,
                previous=self._previous.get(key, ()),
                estimate=estimate,
                memory=self.memory,
            )
        )
        self._previous[key] = tuple(verdicts)
        return verdicts

    async def bypass(self) -> Bypass | None:
        """What an emergency lifts now; None when nothing is, or where there is no control schema."""
        journal = await self._reading()
        return None if journal is None else await journal.bypass()

    # --- what was recorded ------------------------------------------------------------------------------------------

    async def retain(self) -> None:
        """Remove a little of what is older than the settings want it; the rest goes another time, or by `audit prune`."""
        try:
            await retain(await self.require(), self.settings, batches=2)
        except IndexPilotError as exc:
            log("retention.failed", "warning", target=self.target.name, why=exc.message)

    async def builds(self, session: Session) -> list[MeasuredBuild]:
        """What earlier builds on the target of `session` took; empty where there is no journal to tell. A forecast can do
        without, so a journal that does not answer is logged and no error."""
        if self.journal is None or self.journal.session.closed:
            return []
        try:
            return await self.journal.builds(session.facts.system_identifier, session.facts.database)
        except IndexPilotError as exc:
            log("builds.unread", "warning", target=self.target.name, why=exc.message)
            return []

    async def change(self, change_id: int) -> Change:
        return await (await self.require()).change(change_id)

    async def changes(self, limit: int) -> list[Change]:
        return await (await self.require()).changes(limit)
