"""The changing half of the facade: the journal session of this console, the gates, and the way to an executor.

The control session never sends DDL and never sets role; the deed itself belongs to the executor process.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from indexpilot_tui.engine.changes import duplicates, executor, guide, keeping, planning, reconcile, rollback, stats
from indexpilot_tui.engine.changes.agreement import must_agree
from indexpilot_tui.engine.changes.estimate import estimator
from indexpilot_tui.engine.changes.job import control_target
from indexpilot_tui.engine.changes.planning_parts import judged
from indexpilot_tui.engine.journal.journal import Bypass, Journal
from indexpilot_tui.engine.journal.retention import retain
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.model.change import ACTIVE_STATES, Change, Plan, State
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Purpose, Session, Sink, connect
from indexpilot_tui.engine.safeguards import gates
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, RefusedError, UsageError
from indexpilot_tui.settings.model import Settings, Target

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.shadow import ShadowServer

MAX_REASON = 1_000
LOOK_AGAIN_S = 30.0
# how a change that needs a person is settled, and what the control schema calls it
RESOLUTIONS: dict[str, str] = {
    "finish": "finish",
    "repair": "repair",
    "clean": State.CLEANING,
    "verify": State.VERIFYING,
    "fail": State.FAILED,
    "done": State.DONE,
}


class Control:
    """This console's hold on the control schema of one target. `journal` is None, with the `reason`, where there is none."""

    def __init__(self, target: Target, settings: Settings, sink: Sink, second_login: Target | None) -> None:
        self.target, self.settings, self.second_login = target, settings, second_login
        self.journal: Journal | None = None
        self.reason = "the control schema has not been looked for yet"
        self._sink = sink
        self._previous: dict[str, tuple[Verdict, ...]] = {}
        self.memory = Memory()  # of the gates; what they have read is there for others, too
        self._looked = 0.0

    async def open(self) -> None:
        """Look for the control schema. A missing, foreign or unreadable one is told by `reason`, and blocks changes."""
        try:
            session = await connect(
                control_target(self.target, self.settings), Purpose.CONTROL, self.settings, sink=self._sink
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

    def _log(self, event: str, change_id: int, journal: Journal, **context: object) -> None:
        operator = journal.session.facts.session_user
        log(event, "info", target=self.target.name, change=change_id, operator=operator, **context)

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
            plan = await planning.make_plan(session, parse_index_statement(subject), self.settings)
        parent = await journal.change(change.parent_id) if journal and change and change.parent_id else None
        plan = judged(plan) if plan else None
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
                estimate=estimator(session, plan, lambda: self.builds(session)) if plan is not None else None,
                memory=self.memory,
            )
        )
        self._previous[key] = tuple(verdicts)
        return verdicts

    async def bypass(self) -> Bypass | None:
        """What an emergency lifts now; None when nothing is, or where there is no control schema."""
        journal = await self._reading()
        return None if journal is None else await journal.bypass()

    # --- deciding --------------------------------------------------------------------------------------------------

    async def propose(self, session: Session, ddl: str, reason: str) -> Change:
        journal = await self.require()
        plan = await planning.make_plan(session, parse_index_statement(ddl), self.settings)
        must_agree(plan)
        found = await duplicates.look(session, plan) if duplicates.concerns(plan) else None
        if found is not None and found.groups:
            raise RefusedError(found.sentence, field="table", value=f"{plan.schema}.{plan.table}",
                               remedy="settle the duplicates first")  # fmt: skip
        change_id = await journal.propose(plan, target=self.target.name, reason=_reason(reason))
        if found is not None:
            await journal.append(change_id, 0, "duplicates", found.told)
        missing = await stats.remember(session, journal, change_id, "proposed")
        self._log("change.proposed", change_id, journal, ddl=plan.ddl, without_statistics=missing)
        return await journal.change(change_id)

    @asynccontextmanager
    async def _approver(self) -> AsyncIterator[Journal]:
        if self.second_login is None:
            yield await self.require()
            return
        session = await connect(
            control_target(self.second_login, self.settings), Purpose.CONTROL, self.settings, sink=self._sink
        )
        try:
            yield await Journal.open(session, self.settings.control)
        finally:
            await session.close()

    async def approve(self, change_id: int) -> Change:
        async with self._approver() as journal:
            change = await journal.change(change_id)
            must_agree(change.plan, await journal.change(change.parent_id) if change.parent_id else None)
            expires = timedelta(hours=self.settings.approval.expires_after_hours)
            await journal.approve(change_id, change.plan_sha256, expires)
            self._log("change.approved", change_id, journal, plan_sha256=change.plan_sha256)
            return await journal.change(change_id)

    async def reject(self, change_id: int, reason: str) -> Change:
        async with self._approver() as journal:
            await journal.reject(change_id, _reason(reason))
            self._log("change.rejected", change_id, journal)
            return await journal.change(change_id)

    async def withdraw(self, change_id: int, reason: str) -> Change:
        journal = await self.require()
        await journal.withdraw(change_id, _reason(reason))
        self._log("change.withdrawn", change_id, journal)
        return await journal.change(change_id)

    # --- carrying out ----------------------------------------------------------------------------------------------

    async def apply(self, session: Session, change_id: int) -> Change:
        journal = await self.require()
        change = await journal.change(change_id)
        if change.ended or change.state in ACTIVE_STATES or change.state is State.OBSERVING:
            raise RefusedError(
                f"change {change_id} is {change.state.value}: there is nothing to start",
                remedy=f"indexpilot changes show {change_id}",
            )
        refused = gates.refusals(await self.gates(session, change))
        if refused:
            self._log("change.refused", change_id, journal, guards=[v.guard for v in refused])
            raise refusal_of(change_id, refused)
        pid = await executor.spawn(self.target, self.settings, change_id)
        self._log("change.started", change_id, journal, executor_pid=pid)
        return await journal.change(change_id)

    async def rollback(self, session: Session, change_id: int, reason: str) -> Change:
        journal = await self.require()
        child = await rollback.propose_rollback(session, journal, await journal.change(change_id), _reason(reason))
        await stats.remember(session, journal, child, "proposed")
        return await self.apply(session, child)

    async def way_back(self, session: Session, change_id: int) -> WayBack:
        """How the change would be taken back now; the cost of a build is not in it."""
        journal = await self.require()
        return await guide.way_back(session, journal, await journal.change(change_id))

    async def rehearse(self, session: Session, server: ShadowServer, change_id: int) -> Rehearsal:
        """Carry the rollback out on the shadow, and record the result where this login may write the log."""
        from indexpilot_tui.engine.changes.rehearsal import rehearse

        journal = await self.require()
        change = await journal.change(change_id)
        done = await rehearse(server, session, change)
        if not journal.may_operate:
            return done
        await journal.append(change_id, change.epoch, guide.REHEARSED, done.to_json())
        self._log("change.rehearsed", change_id, journal, result=done.result)
        return guide.last_rehearsal(await journal.change(change_id)) or done

    async def abort(self, change_id: int, reason: str) -> Change:
        journal = await self.require()
        await journal.request_abort(change_id, _reason(reason))
        self._log("change.abort_requested", change_id, journal)
        return await journal.change(change_id)

    async def resolve(self, change_id: int, choice: str, reason: str) -> Change:
        """Settle a change that needs a person; where this login may operate, an executor goes on with it at once."""
        if choice not in RESOLUTIONS:
            raise UsageError(
                f"a change is not settled by {choice!r}", field="choice", remedy=f"one of {', '.join(RESOLUTIONS)}"
            )
        async with self._approver() as journal:
            await journal.resolve(change_id, RESOLUTIONS[choice], _reason(reason))
            self._log("change.resolved", change_id, journal, choice=choice)
        journal = await self.require()
        change = await journal.change(change_id)
        if not change.ended and journal.may_operate:
            await executor.spawn(self.target, self.settings, change_id, resume=True)
        return change

    async def keep(self, change_id: int) -> Change:
        journal = await self.require()
        await keeping.keep(journal, change_id)
        return await journal.change(change_id)

    async def reconcile(self) -> list[str]:
        return await reconcile.reconcile(self.target, self.settings, await self.require())

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


def _reason(text: str) -> str:
    if not text.strip():
        raise UsageError(
            "a change needs a reason: the next shift will ask", field="--reason", remedy="say why in a sentence"
        )
    if len(text) > MAX_REASON:
        raise UsageError(f"the reason has more than {MAX_REASON} characters", field="--reason", remedy="shorten it")
    return text.strip()


def refusal_of(change_id: int, verdicts: list[Verdict]) -> RefusedError:
    """One error that names every gate that refuses, with measured value, limit, setting and when it may pass."""
    lines = []
    for v in verdicts:
        limit = f" (limit {v.limit}{f', {v.setting}' if v.setting else ''})" if v.limit else ""
        retry = f"; may pass at {v.retry_at.isoformat(timespec='seconds')}" if v.retry_at else ""
        lines.append(f"  {v.guard}: {v.status.value}: {v.evidence}{limit}{retry}")
    count = f"{len(verdicts)} safeguard{'s' if len(verdicts) > 1 else ''}"
    return RefusedError(
        f"change {change_id} may not start: {count} refuse{'s' if len(verdicts) == 1 else ''}\n" + "\n".join(lines)
    )
