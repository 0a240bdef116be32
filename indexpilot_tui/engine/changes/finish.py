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
from indexpilot_tui.engine.changes.settle import fresh_eye, needs_operator
from indexpilot_tui.engine.changes.standing import stands, taken_back
from indexpilot_tui.engine.changes.verification import REGRESSED
from indexpilot_tui.engine.changes.verification import verify as judge
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.standing import Standing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.errors import IndexPilotError

_KEEP_POLL_S = 2.0
_CATALOG_POLL_S = 10.0  # one row of pg_class; who drops our index at night need not wait for the end of the window


async def observe(work: Work) -> None:
    """Wait until the observation ends (or somebody keeps the change), then compare before and after."""
    work.hold.start_beat()
    journal = await work.hold.patient_journal()
    change = await journal.change(work.change.id)
    found = await _wait_until(work, change.observe_until)
    if work.hold.terminated:
        work.leave = True  # the timestamps are in the journal: the next start goes on from there
        return
    if work.hold.fenced:
        raise StaleEpochError("another executor has taken this change over")
    found = found or await _standing(work)
    if not found.as_planned:
        await _contradicted(work, found)
        return
    await save(work, "observed")
    journal = await work.hold.patient_journal()
    stats = await journal.stats(work.change.id)
    if work.settings.verification.plans == "auto" and hidden(stats):
        from indexpilot_tui.engine.changes.shadow_shapes import with_shadow

        stats, said = await with_shadow(work.target, work.settings, work.plan, stats)
        await work.hold.note("plans", {"outcome": said, "plans": stats["observed"].context.get("plans")})
    verdict = judge(stats, work.settings.verification, work.change.kind)
    await journal.save_verification(work.change.id, work.hold.epoch, verdict)
    outcome, child = f"{verdict.verdict}: {verdict.reason}", None
    if verdict.verdict == REGRESSED:
        led_to, child = await _way_back(work, verdict.reason)
        outcome = f"{outcome}; {led_to}"
    told = {"outcome": outcome, "verdict": verdict.verdict, "catalog": found.to_json()}
    await work.hold.advance(State.DONE, "observed", told)
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


async def _standing(work: Work) -> Standing:
    """What the catalog says at the end, on a session opened anew; a way back that is on its way is let through first."""
    while True:
        journal = await work.hold.patient_journal()
        change = await journal.change(work.change.id)
        found = await stands(await fresh_eye(work), change)
        if found.as_planned or not await taken_back(journal, change):
            return found
        await asyncio.sleep(_KEEP_POLL_S)
        if work.hold.fenced:
            raise StaleEpochError("this change was taken back, or another executor has it")


async def _contradicted(work: Work, found: Standing) -> None:
    """Somebody else changed what we proved: there is nothing to judge any more, and a person decides what it means."""
    table = clean_line(f"{work.plan.schema}.{work.plan.table}")
    await work.hold.note("catalog", found.to_json())
    await needs_operator(work, f"{found.sentence} (seen while it was observed)", [f"\\d {table}"])


async def _wait_until(work: Work, until: datetime | None) -> Standing | None:
    """Wait for the end of the window, or for an operator who keeps the change. What the catalog says when that is against
    the plan before then, else None."""
    if until is None:
        return None
    left = (until - await database_now(await work.eye())).total_seconds()
    end = time.monotonic() + left
    looked = time.monotonic()
    while (now := time.monotonic()) < end and not work.hold.fenced and not work.hold.terminated:
        try:
            journal = await work.hold.journal()
            change = await journal.change(work.change.id)
            if any(event.action == KEPT for event in change.events):
                return None
            if now - looked >= _CATALOG_POLL_S:
                looked = now
                found = await stands(await work.eye(), change)
                if not found.as_planned and not await taken_back(journal, change):
                    return found
        except IndexPilotError:
            pass  # a journal or a server that is away is the lease's business; the end of the window reads again
        await asyncio.sleep(min(_KEEP_POLL_S, max(0.05, end - now)))
    return None
