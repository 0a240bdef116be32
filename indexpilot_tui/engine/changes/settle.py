"""When our statement has ended, the catalog decides what became of it: the reconcile table of the reference, section 1."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from indexpilot_tui.engine.changes import rebuild
from indexpilot_tui.engine.changes.catalog import IndexFacts, backend_alive, index_by_name, index_by_oid, index_text
from indexpilot_tui.engine.changes.definition import differences
from indexpilot_tui.engine.changes.executor import outcome_of
from indexpilot_tui.engine.changes.guard import Rules, Stop
from indexpilot_tui.engine.changes.watch import Ended, watch
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line

# of our statement's answers: the table was not touched, and what has our name is not ours
_NAME_TAKEN = "42P07"
_DEADLOCK = "40P01"
_ADVICE = {
    "23505": "the table has duplicates",
    "53100": "the disk is full; after making room run CHECKPOINT, or a crash could keep the server from starting",
    "53400": "temp_file_limit was reached",
}


def in_words(refused: list[Verdict]) -> str:
    """The refusing verdicts as one sentence."""
    return "; ".join(f"{v.guard} {v.status.value}: {v.evidence}" for v in refused[:4])


def rules_of(work: Work) -> Rules:
    """The guards of this change's own statement. A rollback is not stopped by the end of the window."""
    window = work.settings.production_safeguards.maintenance_window
    return Rules("reindex" if work.rebuilding else work.plan.kind, None if work.rollback or not window.enabled else window)


async def follow(work: Work) -> None:
    """Watch our statement (or the backend of a predecessor) to its end, then let the catalog decide."""
    if work.task is not None and work.backend is not None:
        ended = await watch(work, work.backend, rules_of(work), work.task)
        work.task = None
        await _after(work, ended)
    elif work.backend is not None and await backend_alive(await work.eye(), work.backend):
        already = Stop("resumed", "", "", work.why.sentence, False) if work.state is State.CANCELLING else None
        ended = await watch(work, work.backend, rules_of(work), None, already)
        await _after(work, ended)
    await _decide(work)


async def _after(work: Work, ended: Ended) -> None:
    """The outcome row, and why the statement ended; a connection that broke makes the state unknown."""
    if ended.answered:
        await work.hold.note("ddl.outcome", {**outcome_of(ended.error), "notices": work.door.notices if work.door else []})
    elif work.state is State.RUNNING:
        await work.hold.advance(State.UNKNOWN, "lost", {"why": "the connection broke before the answer"})
    work.why = why_ended(ended, work.why)
    sqlstate = ended.error.sqlstate if isinstance(ended.error, psycopg.Error) else None
    work.foreign = sqlstate == _NAME_TAKEN


def why_ended(ended: Ended, known: Why) -> Why:
    """Why a statement of ours did not succeed, in words for the log; empty when it did."""
    if ended.stop is not None:
        return Why(ended.stop.sentence, ended.stop.retry)
    if not ended.answered:
        return known if known.sentence else Why("the connection broke before the answer")
    if ended.error is None:
        return Why()
    answer = outcome_of(ended.error)
    sqlstate, message = answer["sqlstate"], str(answer["message"])
    if sqlstate == _DEADLOCK:
        rivals = "; ".join(ended.rivals) or "a session that waited for the table"
        return Why(f"killed by the deadlock check (40P01), rival: {rivals}", True)
    advice = f" ({_ADVICE[sqlstate]})" if sqlstate in _ADVICE else ""
    return Why(f"the server answered {sqlstate}: {message}{advice}", False)


async def _decide(work: Work) -> None:
    eye = await fresh_eye(work)
    contradiction = other_server(work, eye)
    if contradiction:
        await needs_operator(work, contradiction, [])
    elif work.rebuilding:
        await decide_rebuild(work, eye)
    elif work.plan.kind == "create":
        await _decide_create(work, eye)
    else:
        await _decide_drop(work, eye)


async def fresh_eye(work: Work) -> Session:
    """The observing session opened anew: its facts (recovery, timeline) are of now."""
    await work.observer.close()
    return await work.eye()


def other_server(work: Work, eye: Session) -> str:
    """Why this is not the server on which the change was claimed (measured: after a promotion the old primary's success
    means nothing), or an empty string."""
    facts = eye.facts
    if facts.system_identifier != work.plan.system_identifier:
        return f"this is cluster {facts.system_identifier}, the change was for {work.plan.system_identifier}"
    if facts.database != work.plan.database:
        return f"this is database {clean_line(facts.database)}, the change was for {clean_line(work.plan.database)}"
    if facts.in_recovery:
        return "the server is a standby now"
    if work.timeline is not None and facts.timeline != work.timeline:
        return f"the server is on timeline {facts.timeline}, the change was claimed on {work.timeline}: there was a failover"
    return ""


async def find_ours(work: Work, eye: Session) -> tuple[IndexFacts | None, str]:
    """Our index as the catalog has it, by recorded OID, else by name; and why it is not ours, if it is not."""
    plan = work.plan
    named = await index_by_name(eye, plan.schema, plan.index)
    if work.index_oid is not None:
        facts = await index_by_oid(eye, work.index_oid)
        if facts is None and named is not None and not work.foreign:
            return named, f"OID {work.index_oid} is gone and {plan.index} is another index now (OID {named.oid})"
    else:
        facts = named
    if facts is None or work.foreign or not work.began:
        return None, ""  # what stands there under our name was there before us, or came from others
    if facts.table_oid != plan.table_oid:
        return facts, f"index {facts.name} is on another table (OID {facts.table_oid})"
    if facts.building:
        return facts, f"somebody is building {facts.name} now"
    if not facts.valid and facts.oid == work.index_oid:
        return facts, ""  # what it was to become does not matter, and its definition may be out of reach behind a lock
    text = await index_text(eye, facts.oid)
    different = differences(plan.ddl, text[0]) if text is not None else ["gone while it was looked at"]
    if different:
        return facts, f"index {facts.name} is not as planned: {'; '.join(different)}"
    return facts, ""


async def leftover_of(work: Work, eye: Session) -> tuple[IndexFacts | None, str]:
    """What of ours has to be removed: the INVALID index of a build, or a copy of a rebuild; and why it is not ours."""
    if not work.rebuilding:
        return await find_ours(work, eye)
    seen = await rebuild.look(eye, work.plan, work.before, work.copy_oid)
    return seen.leftover, seen.wrong


async def _decide_create(work: Work, eye: Session) -> None:
    for _ in range(20):  # a build that has just ended may still show in the progress view
        facts, wrong = await find_ours(work, eye)
        if facts is None or not facts.building:
            break
        await asyncio.sleep(0.5)
    if wrong:
        commands = [f"\\d {clean_line(work.plan.schema)}.{clean_line(work.plan.table)}"]
        await needs_operator(work, wrong, commands)
    elif facts is None:
        await back_or_failed(work, "requeued", "nothing is left of it")
    elif facts.valid:
        work.index_oid = facts.oid
        await work.hold.advance(State.VERIFYING, "verify.intent", {"oid": facts.oid, "after": work.why.sentence})
    else:
        work.index_oid = facts.oid
        journal = await work.hold.journal()
        await journal.set_index(work.change.id, work.hold.epoch, facts.oid, False)
        await work.hold.advance(State.CLEANING, "leftover", {**leftover_told(facts), "why": work.why.sentence})


def leftover_told(facts: IndexFacts) -> dict[str, Any]:
    """What the log says of an INVALID index of ours. One that is UNIQUE and ready harms the application until it is gone
    (measured: it goes on rejecting rows after the cancel), so the change says so for as long as it stands."""
    told: dict[str, Any] = {"oid": facts.oid, "flags": facts.flags, "unique": facts.unique}
    if facts.unique and facts.ready:
        name = clean_line(f"{facts.schema}.{facts.name}")
        told["outcome"] = f"the INVALID leftover {name} rejects duplicate rows of the application until it is removed"
    return told


async def decide_rebuild(work: Work, eye: Session) -> None:
    """The new index in its place, or the old one as before; an INVALID copy of ours is removed first, whichever it is."""
    plan = work.plan
    for _ in range(20):  # a build that has just ended may still show in the progress view
        seen = await rebuild.look(eye, plan, work.before, work.copy_oid)
        if seen.leftover is None or not seen.leftover.building:
            break
        await asyncio.sleep(0.5)
    if seen.wrong:
        await needs_operator(work, seen.wrong, [f"\\d {clean_line(plan.schema)}.{clean_line(plan.table)}"])
    elif seen.leftover is not None:
        left = seen.leftover
        told = {"name": clean_line(left.name), "replaced": seen.replaced, "why": work.why.sentence}
        if work.plan.saved.get("valid", True):  # the original enforces the same rule: the copy adds nothing to it
            told["outcome"] = ""
        await work.hold.advance(State.CLEANING, "leftover", {**leftover_told(left), **told})
    elif not seen.replaced and work.repair:
        if work.why.retry and work.more_attempts:
            await back_or_failed(work, "requeued", "the index is half-dropped as before")
        elif seen.current is not None:
            await _half_dropped(work, seen.current, f"the repair did not succeed: {work.why.sentence}")
    elif not seen.replaced:
        await back_or_failed(work, "requeued", "the index stands as before")
    elif work.repair and seen.current is not None:
        await _repaired(work, seen.current)
    elif seen.current is not None:
        await work.hold.advance(State.VERIFYING, "verify.intent", {"oid": seen.current.oid, "after": work.why.sentence})


async def _repaired(work: Work, facts: IndexFacts) -> None:
    """The end of a drop that was begun and taken back by a person's decision."""
    await work.close_door()
    await (await work.hold.journal()).set_index(work.change.id, work.hold.epoch, facts.oid, facts.valid)
    outcome = f"the drop was not finished: the index was built anew and is {facts.flags} again (OID {facts.oid})"
    await work.hold.advance(State.FAILED, "repaired", {"oid": facts.oid, "was": work.plan.index_oid, "outcome": outcome})


async def _decide_drop(work: Work, eye: Session) -> None:
    plan = work.plan
    facts = await index_by_oid(eye, plan.index_oid or 0)
    if facts is None:
        await work.hold.advance(State.VERIFYING, "verify.intent", {"oid": plan.index_oid})
    elif facts.valid or (not plan.saved.get("valid", True) and facts.live):
        await back_or_failed(work, "requeued", "the index stands as before")
    elif work.more_attempts and (work.why.retry or work.resumed):
        work.requeued = True
        await work.close_door()
        await work.hold.advance(
            State.QUEUED, "requeued", {"why": f"half-dropped ({facts.flags}), to be finished", "was": work.why.sentence}
        )
    else:
        await _half_dropped(work, facts, work.why.sentence)


async def _half_dropped(work: Work, facts: IndexFacts, sentence: str) -> None:
    name = clean_line(f"{facts.schema}.{facts.name}")
    await needs_operator(
        work,
        f"{sentence}; the index is half-dropped ({facts.flags}): no query uses it, writes still pay for it",
        [
            f"indexpilot changes resolve {work.change.id} --finish   # DROP INDEX CONCURRENTLY {name}",
            f"indexpilot changes resolve {work.change.id} --repair   # or have it back: REINDEX INDEX CONCURRENTLY {name}",
        ],
    )


async def end_before_the_deed(work: Work, sentence: str) -> None:
    """The end of a change that cannot start (again): failed, unless an earlier attempt left its index half-dropped. That
    is for a person to finish or to repair, and must not be forgotten behind an end state."""
    if work.plan.kind == "drop" and work.plan.saved.get("valid", True):
        facts = await index_by_oid(await work.eye(), work.plan.index_oid or 0)
        if facts is not None and not facts.valid:
            await _half_dropped(work, facts, sentence)
            return
    await work.hold.advance(State.FAILED, "failed", {"outcome": sentence})


async def back_or_failed(work: Work, action: str, left: str) -> None:
    """Nothing of ours is left behind: queue again if that may help and attempts are left, else the end."""
    await work.close_door()
    begun_not = work.resumed and work.plan.kind != "create"
    if (work.why.retry or begun_not) and work.more_attempts and work.hold.abort is None:
        work.requeued = True
        await work.hold.advance(State.QUEUED, action, {"why": work.why.sentence, "left": left})
        return
    sentence = work.why.sentence or "the executor ended before the index was made"
    tried = f" (attempt {work.attempts})" if work.why.retry else ""
    await work.hold.advance(State.FAILED, "failed", {"outcome": f"{sentence}{tried}; {left}"})


async def needs_operator(work: Work, why: str, commands: list[str]) -> None:
    """A contradiction that no rule settles: a person decides, with what we know and what they can do."""
    await work.close_door()
    outcome = f"{why}: a person must look at it"
    await work.hold.advance(State.NEEDS_OPERATOR, "needs_operator", {"outcome": outcome, "commands": commands})
