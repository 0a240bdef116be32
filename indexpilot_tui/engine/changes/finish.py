"""From an index that the catalog calls valid (or gone) to a change that is done: verified, observed, judged."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.changes import group, rebuild
from indexpilot_tui.engine.changes.catalog import IndexFacts, index_by_oid, index_text
from indexpilot_tui.engine.changes.executor import Door, outcome_of, spawn
from indexpilot_tui.engine.changes.guard import Rules
from indexpilot_tui.engine.changes.rollback import propose_rollback, restoring
from indexpilot_tui.engine.changes.settle import find_ours, fresh_eye, needs_operator, other_server
from indexpilot_tui.engine.changes.shadow_shapes import hidden, with_shadow
from indexpilot_tui.engine.changes.stats import save_stats
from indexpilot_tui.engine.changes.truth import proof
from indexpilot_tui.engine.changes.verification import REGRESSED
from indexpilot_tui.engine.changes.verification import verify as judge
from indexpilot_tui.engine.changes.watch import watch
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import Claim, Journal, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear_own
from indexpilot_tui.engine.safeguards.gates import database_now, refusals
from indexpilot_tui.errors import IndexPilotError, RefusedError

KEPT = "kept"
_KEEP_POLL_S = 2.0


async def verify(work: Work) -> None:
    """Read the catalog again by OID, record what it says, finish what belongs to the index, begin the observation."""
    eye = await fresh_eye(work)
    wrong = other_server(work, eye)
    facts: IndexFacts | None = None
    lost: list[str] = []
    covered: dict[str, int] = {}
    if not wrong and work.plan.kind != "drop":
        if work.plan.steps:
            truth = await group.truth_of(work)
            facts, (wrong, covered) = truth.root, await proof(eye, work.plan, truth)
        elif work.rebuilding:
            seen = await rebuild.look(eye, work.plan, work.before, work.copy_oid)
            facts, wrong = seen.current, seen.wrong or ("" if seen.replaced else "the index was not replaced")
            lost = await rebuild.lost_properties(eye, work.plan, facts.oid) if facts is not None else []
        else:
            facts, wrong = await find_ours(work, eye)
        if not wrong and (facts is None or not (facts.valid and facts.ready and facts.live)):
            wrong = f"the index is not there as it should be ({facts.flags if facts else 'gone'})"
    elif not wrong:
        left = await index_by_oid(eye, work.plan.index_oid or 0)
        wrong = f"the index is still there ({left.flags})" if left is not None else ""
    if wrong:
        await needs_operator(work, wrong, [])
        return
    text = await index_text(eye, facts.oid) if facts is not None else None
    journal = await work.hold.journal()
    oid = facts.oid if facts is not None else None
    await journal.set_index(work.change.id, work.hold.epoch, oid, True if facts is not None else None)
    if facts is not None:
        await _finish_index(work, facts)
    await work.close_door()
    size = text[1] if text else 0
    server = f"{eye.facts.host}:{eye.facts.port}, timeline {eye.facts.timeline}"
    detail: dict[str, object] = {"oid": work.plan.index_oid, "gone": True, "server": server}
    if facts is not None:
        detail = {"oid": oid, "valid": True, "ready": True, "live": True, "size_bytes": size, "server": server}
        detail["definition"] = text[0] if text else ""
    size = covered.get("size_bytes", size)
    detail |= covered
    detail["outcome"] = _built(work, facts, size) + (f", on {covered['covered']} partitions" if covered else "")
    if work.rebuilding and facts is not None:
        after = await rebuild.standing(eye, replace(work.plan, index_oid=facts.oid))
        detail |= {"before": _evidence(work.before), "after": _evidence(after), "lost": lost}
        detail["outcome"] = _rebuilt(work.before, after, lost)
    await _save(work, "end")
    if work.rollback:
        await work.hold.advance(State.DONE, "verified", detail)
        return
    until = await database_now(eye) + timedelta(seconds=work.settings.verification.window_seconds)
    await work.hold.advance(State.OBSERVING, "verified", {**detail, "observe_until": until})


def _built(work: Work, facts: IndexFacts | None, size: int) -> str:
    if facts is None:
        return "the index is gone"
    after = f" (although: {work.why.sentence})" if work.why.sentence else ""
    return f"the index is valid, {size} bytes{after}"


def _evidence(standing: dict[str, Any]) -> dict[str, Any]:
    return {key: standing.get(key) for key in ("oid", "relfilenode", "size_bytes")}


def _rebuilt(before: dict[str, Any], after: dict[str, Any], lost: list[str]) -> str:
    words = (
        f"the index was built anew: OID {before.get('oid')} is {after['oid']} now, relfilenode {before.get('relfilenode')}"
        f" is {after['relfilenode']}, {before.get('size_bytes')} bytes are {after['size_bytes']}"
    )
    return f"{words}; not as before: {', '.join(lost)}" if lost else words


async def _finish_index(work: Work, facts: IndexFacts) -> None:
    """ANALYZE for an index on expressions (the planner guesses without: measured), and what a way back restores. Only
    after the index is valid: during a build either would kill it. Failing here does not undo a valid index."""
    statements: list[tuple[str, list[sql.Composed]]] = []
    if work.rollback:
        statements.append(("restore", restoring(work.plan, facts)))
    if facts.has_expressions:
        table = sql.Identifier(work.plan.schema, work.plan.table)
        statements.append(("analyze", [sql.SQL("analyze {}").format(table)]))
    for action, texts in statements:
        if not texts:
            continue
        try:
            if work.door is None or work.door.session.closed:
                work.door = await Door.open(work.target, work.settings, work.hold, work.plan)
            if work.door is None:
                raise RefusedError("another session holds the lock for changes of this table")
            for text in texts:
                context = await work.gate_context(claimed=True)
                answer = await clear_own(context, Claim(work.change.id, work.hold.epoch, work.plan, None), "finish")
                if not isinstance(answer, Clearance):
                    raise RefusedError("; ".join(v.evidence for v in refusals(answer)))
                task = await work.door.start_finishing(answer, action, text)
                ended = await watch(work, work.door.backend, Rules("finish", None), task)
                why = {"given_up": ended.stop.sentence} if ended.stop is not None else {}
                await work.hold.note(f"{action}.outcome", {**outcome_of(ended.error), **why})
        except StaleEpochError:
            raise
        except (IndexPilotError, psycopg.Error) as exc:
            await work.hold.note(f"{action}.outcome", outcome_of(exc))


async def _save(work: Work, phase: str) -> None:
    try:
        shapes = work.shapes if phase == "observed" else None
        journal = await work.hold.patient_journal()
        await save_stats(journal, await work.eye(), work.change.id, work.hold.epoch, phase, work.plan, shapes)
    except StaleEpochError:
        raise
    except IndexPilotError as exc:
        await work.hold.note("stats.missing", {"phase": phase, "why": exc.message})


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
    await _save(work, "observed")
    journal = await work.hold.patient_journal()
    stats = await journal.stats(work.change.id)
    if work.settings.verification.plans == "auto" and hidden(stats):
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


async def keep(journal: Journal, change_id: int) -> None:
    """End the observation early: the change stays, judged by what was seen so far. RefusedError unless it is observing."""
    change = await journal.change(change_id)
    if change.state is not State.OBSERVING:
        raise RefusedError(f"change {change_id} is {change.state.value}: only one that is observed can be kept")
    await journal.append(change_id, change.epoch, KEPT, {})
