"""From approved to running: gates, claim, gates again, the table's lock, the intent, the DDL."""

from __future__ import annotations

import asyncio
import time

import psycopg

from indexpilot_tui.engine.changes import duplicates, group
from indexpilot_tui.engine.changes.asking import leave_for
from indexpilot_tui.engine.changes.catalog import index_by_name, index_by_oid, table_now
from indexpilot_tui.engine.changes.executor import Door
from indexpilot_tui.engine.changes.planning_existing import drop_refusal, reindex_refusal
from indexpilot_tui.engine.changes.rebuild import standing
from indexpilot_tui.engine.changes.rollback import kept_way_back
from indexpilot_tui.engine.changes.settle import end_before_the_deed, in_words
from indexpilot_tui.engine.changes.stats import save_stats
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.journal.journal import JournalRefusedError, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.engine.safeguards.gates import evaluate, refusals
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, PrivilegeError, RefusedError, ServerError

# refusals of the claim that pass by themselves
_PASSING = ("busy", "rate_limit")


async def queue_and_claim(work: Work) -> None:
    """Ask the gates; claim when all pass. The first time a refusal is final and the change stays as it was; a change that
    was queued again waits for its gates, up to `observer.waiting_phase_seconds`, or when a part of it stands already as
    long as its approval lasts."""
    if work.requeued:
        await _wait_in_queue(work)
        if work.state is not State.QUEUED:
            return
    else:
        try:
            why = in_words(await _gates(work, claimed=False))
        except IndexPilotError as exc:
            why = f"the gates could not be asked: {exc.message}"
        if why:
            await work.hold.note("apply.refused", {"outcome": why})
            work.leave = True
            return
    try:
        await _claim(work)
    except JournalRefusedError as exc:
        if work.requeued and exc.code in _PASSING:
            work.attempted = True
            return  # drive comes here again
        await work.hold.note("apply.refused", {"outcome": exc.message, "code": exc.code})
        if work.state is State.QUEUED:
            await _end(work, f"{work.why.sentence}; then {exc.message}")
        work.leave = True
        return
    except (ServerError, PrivilegeError, NotInstalledError) as exc:
        if work.requeued:
            raise  # it is waited for: something of it was begun
        await work.hold.note("apply.refused", {"outcome": f"it could not be claimed: {exc.message}"})
        work.leave = True
        return
    work.index_oid, work.began, work.foreign, work.backend = work.plan.index_oid, False, False, None
    work.before, work.copy_oid = {}, None
    work.attempts += 1
    work.attempted = True
    work.hold.start_beat()


async def _gates(work: Work, *, claimed: bool) -> list[Verdict]:
    context = await work.gate_context(claimed=claimed, position=await group.judged_step(work))
    verdicts = await evaluate(context)
    await (await work.hold.journal()).record_gates(work.change.id, verdicts)
    return refusals(verdicts)


async def _end(work: Work, sentence: str) -> None:
    await (group.end_in_queue if work.plan.steps else end_before_the_deed)(work, sentence)


async def _claim(work: Work) -> None:
    eye = await work.eye()
    rate = work.settings.rate_limiter.index_creation
    work.timeline = eye.facts.timeline
    async with work.hold.turn:
        claim = await (await work.hold.journal()).claim(
            work.change.id,
            system_identifier=eye.facts.system_identifier,
            timeline=eye.facts.timeline,
            rate_max=rate.max_requests,
            rate_window_s=float(rate.time_window_seconds),
            lease_s=work.hold.lease_s,
        )
        work.hold.epoch, work.hold.state = claim.epoch, State.STARTING


async def _wait_in_queue(work: Work) -> None:
    limits = work.settings.production_safeguards.observer
    end = time.monotonic() + limits.waiting_phase_seconds
    while True:
        if work.attempted:  # what a predecessor left in the queue is not held up once more
            await asyncio.sleep(limits.requeue_delay_seconds)
        work.attempted = True
        if work.hold.fenced:
            raise StaleEpochError("another executor has taken this change over")
        if work.hold.abort is not None:
            await _end(work, f"stopped on request of {work.hold.abort}")
            return
        refused = await _gates(work, claimed=False)
        if not refused:
            return
        if (time.monotonic() > end and not await group.stands(work)) or any(v.status is Status.BLOCK for v in refused):
            words = f"{work.why.sentence}; could not start again: {in_words(refused)}"
            await _end(work, words)
            return


async def start(work: Work) -> None:
    """Claimed: connect the executor, ask all gates again, write the intent, send the DDL."""
    try:
        door = await Door.open(work.target, work.settings, work.hold, work.plan)
        if door is None:
            await _not_now(work, "another session holds the lock for changes of this table", retry=True)
            return
        work.door = door
        if await _contradiction(work):
            return
        journal = await work.hold.journal()
        await journal.set_backend(work.change.id, work.hold.epoch, door.backend.pid, door.backend.start)
        work.backend = door.backend
        await _first_statistics(work)
        if await _has_duplicates(work, door):
            return
        clearance = await _clear(work)
        if clearance is None or await _contradiction(work):  # asked again: the gates take time, and names change hands
            return
        if work.hold.abort is not None:
            await _not_now(work, f"stopped on request of {work.hold.abort}", retry=False)
            return
        if work.plan.kind == "drop" and not work.rollback and not work.repair:
            back = await kept_way_back(await work.eye(), work.change)
            if back is not None:
                await journal.keep_way_back(work.change.id, work.hold.epoch, back)
        if work.plan.steps:
            await door.begin_steps(clearance, work.parent)
            work.began = True
            return
        if work.rebuilding:
            work.before = await standing(await work.eye(), work.plan)
        work.task = await door.start_change(clearance, work.parent, repair=work.repair, before=work.before)
        work.began = True
    except StaleEpochError:
        raise
    except IndexPilotError as exc:
        if work.task is not None:
            raise
        await _not_now(work, f"could not start: {exc.message}", retry=False)


async def _clear(work: Work) -> Clearance | None:
    answer = await leave_for(work, await group.judged_step(work))
    if isinstance(answer, Clearance):
        return answer
    await (await work.hold.journal()).record_gates(work.change.id, answer)
    refused = refusals(answer)
    passing = all(v.status is Status.WAIT for v in refused)
    await _not_now(work, f"after the claim: {in_words(refused)}", retry=passing)
    return None


async def _not_now(work: Work, sentence: str, *, retry: bool) -> None:
    """Nothing was sent: back to the queue, or the end. A slot of the rate limit stays spent."""
    await work.close_door()
    work.why = Why(sentence, retry)
    if retry and work.more_attempts:
        work.requeued = True
        await work.hold.advance(State.QUEUED, "requeued", {"why": sentence})
    else:
        await _end(work, sentence)


async def _contradiction(work: Work) -> bool:
    """The objects must still be those of the plan: a table or an index can be renamed, dropped or made in between."""
    eye, plan = await work.eye(), work.plan
    table = await table_now(eye, plan.table_oid)
    why = ""
    if table is None or table[:2] != (plan.schema if plan.kind == "create" else table[0], plan.table):
        why = f"the table with OID {plan.table_oid} is not {clean_line(plan.schema)}.{clean_line(plan.table)} any more"
    elif plan.kind == "create" and plan.steps:
        why = await group.contradiction(work)
    elif plan.kind == "create" and await index_by_name(eye, plan.schema, plan.index) is not None:
        why = f"the name {clean_line(plan.index)} was taken in the meantime"
    elif plan.kind != "create":
        index = await index_by_oid(eye, plan.index_oid or 0)
        if index is None or (index.schema, index.name) != (plan.schema, plan.index):
            why = f"the index with OID {plan.index_oid} is gone or has another name"
        elif work.rebuilding:
            why = await reindex_refusal(eye, plan)
        else:
            why = await drop_refusal(eye, plan, allow_unique=work.rollback or not plan.saved.get("valid", True))
    if not why:
        return False
    await _not_now(work, f"{why}: propose the change again", retry=False)
    return True


async def _has_duplicates(work: Work, door: Door) -> bool:
    """Count them before a UNIQUE build; True when it does not begin for that. What could not be counted holds it up, too,
    unless `production_safeguards.unique_precheck.required` is off."""
    if not duplicates.concerns(work.plan):
        return False
    policy = work.settings.production_safeguards.unique_precheck
    eye = await work.eye()
    query = await duplicates.guarded(eye, work.plan) or await duplicates.counting(eye, work.plan)
    if isinstance(query, str):
        found = duplicates.Duplicates(None, None, query)
    else:
        try:
            found = duplicates.Duplicates(*await door.count_duplicates(work, query, policy.max_seconds))
        except psycopg.Error as exc:
            late = f"the count took longer than {policy.max_seconds:g} s (production_safeguards.unique_precheck.max_seconds)"
            why = late if exc.sqlstate == "57014" else f"the server answered {exc.sqlstate}"
            found = duplicates.Duplicates(None, None, why)
        except RefusedError as exc:  # what it ran changed the session that counted
            found = duplicates.Duplicates(None, None, exc.message)
    await work.hold.note("duplicates", found.told)
    if found.groups == 0 or (found.groups is None and not policy.required):
        return False
    await _not_now(work, found.sentence, retry=False)
    return True


async def _first_statistics(work: Work) -> None:
    """Counters before the change. Without them the change goes on, and its verdict will be "no evidence"."""
    try:
        journal, change_id = await work.hold.journal(), work.change.id
        await save_stats(journal, await work.eye(), change_id, work.hold.epoch, "start", work.plan, work.shapes)
    except StaleEpochError:
        raise
    except IndexPilotError as exc:
        await work.hold.note("stats.missing", {"phase": "start", "why": exc.message})
