"""From an index that is proven to a change that is done: observed, judged, kept or taken back."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from indexpilot_tui.engine.changes.executor import spawn
from indexpilot_tui.engine.changes.keeping import KEPT
from indexpilot_tui.engine.changes.plan_shapes import hidden
from indexpilot_tui.engine.changes.prove import save
from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.changes.verification import REGRESSED
from indexpilot_tui.engine.changes.verification import verify as judge
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.errors import IndexPilotError

_KEEP_POLL_S = 2.0


async def observe(work: Work) -> None:
    """Wait until the observation ends (or somebody keeps the change), then compare before and after."""
    work.hold.start_beat()
    journal = await work.hold.patient_journal()
    change = await journal.change(work.change.id)
    await _wait_until(work, change.observe_until)
    if work.hold.terminated:
        work.leave = True  # the timestamps are in the journal: the next start goes on from there
        return
    if work.hold.fenced:
        raise StaleEpochError("another executor has taken this change over")
    await save(work, "observed")
    journal = await work.hold.patient_journal()
    stats = await journal.stats(work.change.id)
    if work.settings.verification.plans == "auto" and hidden(stats):
        from indexpilot_tui.engine.changes.shadow_shapes import with_shadow

        stats, told = await with_shadow(work.target, work.settings, work.plan, stats)
        await work.hold.note("plans", {"outcome": told, "plans": stats["observed"].context.get("plans")})
    verdict = judge(stats, work.settings.verification, work.change.kind)
    await journal.save_verification(work.change.id, work.hold.epoch, verdict)
    outcome, child = f"{verdict.verdict}: {verdict.reason}", None
    if verdict.verdict == REGRESSED:
        told, child = await _way_back(work, verdict.reason)
        outcome = f"{outcome}; {told}"
    await work.hold.advance(State.DONE, "observed", {"outcome": outcome, "verdict": verdict.verdict})
    await work.hold.stop_beat()  # the lease of a change that is done cannot be renewed: that is no takeover
    if child is not None and work.settings.verification.auto_revert == "perform":
        await _perform(work, child)


async def _way_back(work: Work, reason: str) -> tuple[str, int | None]:
    """What a regression leads to by `verification.auto_revert`: nothing, the proposal of the rollback, or also its start."""
    policy = work.settings.verification.auto_revert
    if policy == "off":
        return "nothing is taken back by itself (verification.auto_revert: off)", None
    journal = await work.hold.patient_journal()
    change = await journal.change(work.change.id)
    try:
        child = await propose_rollback(await work.eye(), journal, change, f"regressed: {reason[:800]}")
    except IndexPilotError as exc:
        return f"the rollback could not be proposed ({exc.message})", None
    what = "rollback starts as change" if policy == "perform" else "rollback proposed as change"
    return f"{what} {child}", child


async def _perform(work: Work, child: int) -> None:
    """Start the rollback in an executor of its own, which asks all gates: the approval of a change covers its own rollback
    for a day. What does not start stays proposed."""
    try:
        pid = await spawn(work.target, work.settings, child)
    except IndexPilotError as exc:
        await work.hold.note("auto_revert", {"change": child, "started": False, "why": exc.message})
        return
    await work.hold.note("auto_revert", {"change": child, "started": True, "executor_pid": pid})


async def _wait_until(work: Work, until: datetime | None) -> None:
    if until is None:
        return
    left = (until - await database_now(await work.eye())).total_seconds()
    end = time.monotonic() + left
    while (now := time.monotonic()) < end and not work.hold.fenced and not work.hold.terminated:
        try:
            change = await (await work.hold.journal()).change(work.change.id)
        except IndexPilotError:
            change = None  # the lease's business; the end of the window stands
        if change is not None and any(event.action == KEPT for event in change.events):
            return
        await asyncio.sleep(min(_KEEP_POLL_S, max(0.05, end - now)))
