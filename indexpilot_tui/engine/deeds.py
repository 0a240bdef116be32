"""The changing half of the facade: what an operator does to a change, and the way to an executor.

Loaded with the first deed: a console that only looks has no use for it. The control session never sends DDL and never
sets role; the deed itself belongs to the executor process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from indexpilot_tui.engine.changes import duplicates, executor, guide, keeping, planning, reconcile, rollback, stats
from indexpilot_tui.engine.changes.agreement import must_agree
from indexpilot_tui.engine.changes.job import control_target
from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.model.change import ACTIVE_STATES, Change, State
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.safeguards import gates
from indexpilot_tui.engine.safeguards.terms import terms_of
from indexpilot_tui.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.shadow import ShadowServer

MAX_REASON = 1_000
# how a change that needs a person is settled, and what the control schema calls it
RESOLUTIONS: dict[str, str] = {
    "finish": "finish",
    "repair": "repair",
    "clean": State.CLEANING,
    "verify": State.VERIFYING,
    "fail": State.FAILED,
    "done": State.DONE,
}


class Deeds:
    """What is done by way of a console's hold on the control schema."""

    def __init__(self, control: Control) -> None:
        self._control, self._target, self._settings = control, control.target, control.settings

    def _log(self, event: str, change_id: int, journal: Journal, **context: object) -> None:
        operator = journal.session.facts.session_user
        log(event, "info", target=self._target.name, change=change_id, operator=operator, **context)

    # --- deciding --------------------------------------------------------------------------------------------------

    async def propose(self, session: Session, ddl: str, reason: str) -> Change:
        journal = await self._control.require()
        plan = await planning.make_plan(session, parse_index_statement(ddl), self._settings)
        plan = replace(plan, terms=terms_of(self._target, self._settings))
        must_agree(plan)
        found = await duplicates.chance(session, plan) if duplicates.concerns(plan) else None
        change_id = await journal.propose(plan, target=self._target.name, reason=_reason(reason))
        if found is not None:
            await journal.append(change_id, 0, "duplicates", found.told)
        missing = await stats.remember(session, journal, change_id, "proposed")
        self._log("change.proposed", change_id, journal, ddl=plan.ddl, without_statistics=missing)
        return await journal.change(change_id)

    @asynccontextmanager
    async def _approver(self) -> AsyncIterator[Journal]:
        second = self._control.second_login
        if second is None:
            yield await self._control.require()
            return
        session = await connect(
            control_target(second, self._settings), Purpose.CONTROL, self._settings, sink=self._control.sink
        )
        try:
            yield await Journal.open(session, self._settings.control)
        finally:
            await session.close()

    async def approve(self, change_id: int) -> Change:
        async with self._approver() as journal:
            change = await journal.change(change_id)
            must_agree(change.plan, await journal.change(change.parent_id) if change.parent_id else None)
            expires = timedelta(hours=self._settings.approval.expires_after_hours)
            await journal.approve(change_id, change.plan_sha256, expires)
            self._log("change.approved", change_id, journal, plan_sha256=change.plan_sha256)
            return await journal.change(change_id)

    async def reject(self, change_id: int, reason: str) -> Change:
        async with self._approver() as journal:
            await journal.reject(change_id, _reason(reason))
            self._log("change.rejected", change_id, journal)
            return await journal.change(change_id)

    async def withdraw(self, change_id: int, reason: str) -> Change:
        journal = await self._control.require()
        await journal.withdraw(change_id, _reason(reason))
        self._log("change.withdrawn", change_id, journal)
        return await journal.change(change_id)

    # --- carrying out ----------------------------------------------------------------------------------------------

    async def apply(self, session: Session, change_id: int) -> Change:
        journal = await self._control.require()
        change = await journal.change(change_id)
        if change.ended or change.state in ACTIVE_STATES or change.state is State.OBSERVING:
            raise RefusedError(
                f"change {change_id} is {change.state.value}: there is nothing to start",
                remedy=f"indexpilot changes show {change_id}",
            )
        refused = gates.refusals(await self._control.gates(session, change))
        if refused:
            self._log("change.refused", change_id, journal, guards=[v.guard for v in refused])
            raise refusal_of(change_id, refused)
        pid = await executor.spawn(self._target, self._settings, change_id)
        self._log("change.started", change_id, journal, executor_pid=pid)
        return await journal.change(change_id)

    async def rollback(self, session: Session, change_id: int, reason: str) -> Change:
        journal = await self._control.require()
        child = await rollback.propose_rollback(session, journal, await journal.change(change_id), _reason(reason))
        await stats.remember(session, journal, child, "proposed")
        return await self.apply(session, child)

    async def way_back(self, session: Session, change_id: int) -> WayBack:
        """How the change would be taken back now; the cost of a build is not in it."""
        journal = await self._control.require()
        return await guide.way_back(session, journal, await journal.change(change_id))

    async def rehearse(self, session: Session, server: ShadowServer, change_id: int) -> Rehearsal:
        """Carry the rollback out on the shadow, and record the result where this login may write the log."""
        from indexpilot_tui.engine.changes.rehearsal import rehearse

        journal = await self._control.require()
        change = await journal.change(change_id)
        done = await rehearse(server, session, change)
        if not journal.may_operate:
            return done
        await journal.append(change_id, change.epoch, guide.REHEARSED, done.to_json())
        self._log("change.rehearsed", change_id, journal, result=done.result)
        return guide.last_rehearsal(await journal.change(change_id)) or done

    async def abort(self, change_id: int, reason: str) -> Change:
        journal = await self._control.require()
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
        journal = await self._control.require()
        change = await journal.change(change_id)
        if not change.ended and journal.may_operate:
            await executor.spawn(self._target, self._settings, change_id, resume=True)
        return change

    async def keep(self, change_id: int) -> Change:
        journal = await self._control.require()
        await keeping.keep(journal, change_id)
        return await journal.change(change_id)

    async def reconcile(self) -> list[str]:
        return await reconcile.reconcile(self._target, self._settings, await self._control.require())


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
