"""Carrying out a change on a partitioned table: step by step in one claim, each judged, told and watched like a change."""

from __future__ import annotations

import asyncio

import psycopg

from indexpilot_tui.engine.changes.asking import leave_for
from indexpilot_tui.engine.changes.catalog import backend_alive, index_by_name, question
from indexpilot_tui.engine.changes.executor import outcome_of
from indexpilot_tui.engine.changes.guard import Rules, Stop
from indexpilot_tui.engine.changes.planning_parts import MAKES, TRIES
from indexpilot_tui.engine.changes.settle import (
    back_or_failed,
    fresh_eye,
    in_words,
    leftover_told,
    needs_operator,
    other_server,
    rules_of,
    why_ended,
)
from indexpilot_tui.engine.changes.truth import Truth, read_truth
from indexpilot_tui.engine.changes.watch import Ended, watch
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.engine.safeguards.gates import refusals
from indexpilot_tui.errors import ConnectError, RefusedError

PAUSE_S = 1.0
_LOCKED = "55P03"
_LOST = "the executor's session was lost"


async def truth_of(work: Work) -> Truth:
    """How far the change has come, by the catalog now."""
    journal = await work.hold.patient_journal()
    return await read_truth(await work.eye(), work.plan, await journal.parts(work.change.id))


async def judged_step(work: Work) -> int | None:
    """The step that the gates are asked about before anything is sent: the next build, else the next step of any kind. None
    for a change of one statement."""
    if not work.plan.steps:
        return None
    todo = (await truth_of(work)).todo
    builds = [n for n in todo if work.plan.steps[n].deed == "leaf"]
    return (builds or todo or [0])[0]


async def stands(work: Work) -> bool:
    """Whether something of a change on a partitioned table was made already."""
    if not work.plan.steps:
        return False
    parts = await (await work.hold.journal()).parts(work.change.id)
    return any(part.state != "cleaned" for part in parts.values())


async def contradiction(work: Work) -> str:
    """Why the steps do not fit the table any more, or an empty string. A partition that came after the index of the whole
    was made has got its part by itself; one that came before is in nobody's plan."""
    truth = await truth_of(work)
    if truth.wrong or truth.root is not None:
        return truth.wrong
    if truth.gone:
        return f"{clean_line(work.plan.steps[truth.gone[0]].table)} is no partition of the table any more"
    eye = await work.eye()
    rows = await eye.rows(question("partitions", eye), {"table_oid": work.plan.table_oid})
    planned = {step.table_oid for step in work.plan.steps}
    whole = {step.table_oid for step in work.plan.steps if step.index_oid is not None}
    for row in rows:
        if row["parent"] in whole:
            whole.add(row["oid"])
        elif row["oid"] not in planned:
            return f"{clean_line(row['name'])} is a partition that was not planned for"
    return ""


async def follow(work: Work) -> None:
    """Take the steps that are left; a predecessor's backend is watched to its end first. Then the catalog decides."""
    if work.door is None or work.door.session.closed:
        await _adopt(work)
        if work.door is not None and not work.why.sentence:
            work.why = Why(_LOST, True)
    else:
        while work.state is State.RUNNING and await _next(work):
            pass
    if work.door is not None:
        left = len((await truth_of(work)).todo)
        await work.hold.note("ddl.outcome", {"ok": left == 0, "steps_left": left, "why": work.why.sentence})
    await settle(work)


async def _adopt(work: Work) -> None:
    if work.backend is None or not await backend_alive(await work.eye(), work.backend):
        return
    already = Stop("resumed", "", "", work.why.sentence, False) if work.state is State.CANCELLING else None
    rules = Rules("create", rules_of(work).window)
    ended = await watch(work, work.backend, rules, None, already)
    work.why = why_ended(ended, work.why)


async def _next(work: Work) -> bool:
    """Take the next step. False when there is none, or when it did not succeed (`work.why` says why)."""
    truth = await truth_of(work)
    if truth.wrong or truth.leftover is not None or not truth.todo:
        return False
    position = truth.todo[0]
    if work.plan.steps[position].deed == "leaf":
        return await _take(work, position) == ""
    for _ in range(TRIES):
        left = await _take(work, position)
        if left != _LOCKED:
            return left == ""
        await asyncio.sleep(PAUSE_S)
    table = clean_line(work.plan.steps[position].table)
    work.why = Why(f"the lock on {table} was not free for {TRIES} tries of a second", True)
    return False


async def _take(work: Work, position: int) -> str:
    """One try of one step: an empty string when it is done, else the SQLSTATE or another word for why not."""
    step, door = work.plan.steps[position], work.door
    if work.hold.abort is not None:
        work.why = Why(f"stopped on request of {work.hold.abort}")
        return "abort"
    answer = await leave_for(work, position)
    if not isinstance(answer, Clearance):
        refused = refusals(answer)
        await (await work.hold.journal()).record_gates(work.change.id, answer)
        passing = all(v.status is Status.WAIT for v in refused)
        deed = "joining " if step.deed == "attach" else ""
        work.why = Why(f"before {deed}{clean_line(step.table)}: {in_words(refused)}", passing, held=True)
        return "gates"
    if door is None:
        return "door"
    try:
        task = await door.start_step(answer, position)
    except RefusedError as exc:
        work.why = Why(exc.message, True)
        return "refused"
    except ConnectError:
        if not door.session.closed:
            raise  # it is the journal that is away
        work.why = Why(f"before {clean_line(step.table)}: {_LOST}", True)  # nothing was sent: it goes on from here
        return "door"
    work.part, work.index_oid = position, None
    rules = rules_of(work) if step.deed == "leaf" else Rules("step", None)
    ended = await watch(work, door.backend, rules, task)
    return await _outcome(work, position, ended)


async def _outcome(work: Work, position: int, ended: Ended) -> str:
    step = work.plan.steps[position]
    notices, door = [], work.door
    if door is not None:
        notices, door.notices = door.notices, []
    if not ended.answered:
        await work.hold.advance(State.UNKNOWN, "lost", {"why": "the connection broke before the answer", "part": position})
        work.why = why_ended(ended, work.why)
        return "lost"
    await work.hold.note("part.outcome", {"position": position, **outcome_of(ended.error), "notices": notices})
    if ended.error is None and ended.stop is None:
        oid = await _made_oid(work, position)
        await work.hold.set_part(position, "done", oid)
        if position == 0 and oid is not None:
            work.hold.later_index(oid, False)
        return ""
    if isinstance(ended.error, psycopg.Error) and ended.error.sqlstate == _LOCKED and ended.stop is None:
        return _LOCKED
    why = why_ended(ended, work.why)
    held = ended.stop is not None and ended.stop.guard != "abort"
    work.why = Why(f"{clean_line(step.table)}: {why.sentence}", why.retry, held)
    return "ended"


async def _made_oid(work: Work, position: int) -> int | None:
    step = work.plan.steps[position]
    if step.deed not in MAKES:
        return None
    facts = await index_by_name(await work.eye(), step.schema, step.index)
    return facts.oid if facts is not None else None


async def settle(work: Work) -> None:
    """What to do next, from what the catalog says: on, back to the queue, clean up, verify, or a person."""
    eye = await fresh_eye(work)
    contradiction = other_server(work, eye)
    if contradiction:
        await needs_operator(work, contradiction, [])
        return
    truth = await truth_of(work)
    for _ in range(20):  # a build that has just ended may still show in the progress view
        if truth.leftover is None or not truth.leftover[1].building:
            break
        await asyncio.sleep(0.5)
        truth = await truth_of(work)
    if truth.wrong:
        await needs_operator(work, truth.wrong, [f"\\d+ {clean_line(f'{work.plan.schema}.{work.plan.table}')}"])
    elif not truth.todo and truth.leftover is None and not work.give_up:  # one may be left on a partition that went
        await work.hold.advance(State.VERIFYING, "verify.intent", {"oid": truth.root.oid if truth.root else None})
    elif work.plan.kind == "drop":
        await back_or_failed(work, "requeued", "the index stands as before")
    else:
        await _not_finished(work, truth)


async def _not_finished(work: Work, truth: Truth) -> None:
    made = sum(work.plan.steps[n].deed == "leaf" for n in truth.made)
    of = sum(step.deed == "leaf" for step in work.plan.steps)
    told = {"why": work.why.sentence, "made": made, "of": of}
    stopped = work.hold.abort is not None or work.give_up
    again = (work.why.retry or work.resumed) and not stopped
    keep = again or (work.why.held and not stopped)
    if truth.leftover is not None and keep:
        left = truth.leftover[1]
        await work.hold.advance(State.CLEANING, "leftover", {**told, **leftover_told(left), "part": truth.leftover[0]})
    elif again and work.more_attempts:
        await work.close_door()
        work.requeued = True
        await work.hold.advance(State.QUEUED, "requeued", told)
    elif keep and truth.made:
        await half_built(work, truth, f"{work.why.sentence or 'its executor was lost'} (attempt {work.attempts})")
    elif truth.made or truth.leftover is not None:
        await give_up(work, work.why.sentence)
    else:
        await back_or_failed(work, "requeued", "nothing is left of it")


async def end_in_queue(work: Work, sentence: str) -> None:
    """The end of a change that cannot start (again): failed when nothing of it stands; else it is removed when somebody has
    stopped it, and left to a person when not."""
    truth = await truth_of(work)
    if not truth.made and truth.leftover is None:
        await work.hold.advance(State.FAILED, "failed", {"outcome": sentence})
    elif work.hold.abort is not None and work.plan.kind == "create":
        work.why = Why(sentence)
        await give_up(work, sentence)
    elif work.plan.kind == "drop":
        await work.hold.advance(State.FAILED, "failed", {"outcome": f"{sentence}; the index stands as before"})
    else:
        await half_built(work, truth, sentence)


async def give_up(work: Work, why: str) -> None:
    """Everything that was made is removed again."""
    work.give_up = True
    await work.hold.advance(State.CLEANING, "give_up", {"why": why})


async def half_built(work: Work, truth: Truth, sentence: str) -> None:
    """What was built stays, and a person says whether the rest is to follow. Nothing of it is INVALID but the index of the
    partitioned table itself, which has no storage and costs nothing."""
    leaves = [n for n, step in enumerate(work.plan.steps) if step.deed == "leaf"]
    made = sum(n in truth.made for n in leaves)
    await needs_operator(
        work,
        f"{sentence}; {made} of {len(leaves)} partitions are built, the index of the whole is not valid yet",
        [
            f"indexpilot changes resolve {work.change.id} --finish   # build and join the rest",
            f"indexpilot changes resolve {work.change.id} --clean    # remove what was built",
        ],
    )
