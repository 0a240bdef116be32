"""Removing what a change on a partitioned table made: one INVALID part before another try, or all when it is given up."""

from __future__ import annotations

import asyncio
import time

from indexpilot_tui.engine.changes.catalog import IndexFacts
from indexpilot_tui.engine.changes.cleaning import PAGE_AFTER_S, drop_once, pause
from indexpilot_tui.engine.changes.group import settle, truth_of
from indexpilot_tui.engine.changes.settle import fresh_eye, needs_operator, other_server
from indexpilot_tui.engine.changes.truth import Truth
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.model.change import Plan, State
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line

Victim = tuple[int, IndexFacts]


def next_victim(plan: Plan, truth: Truth, *, everything: bool) -> Victim | None:
    """What is removed next. The INVALID part first. Then, when all is given up: parts that stand alone, since these go
    without stopping anybody; the indexes of partitioned tables last, and with them what is joined to them already."""
    if truth.leftover is not None:
        return truth.leftover
    if not everything:
        return None
    alone = [(n, facts) for n, facts in sorted(truth.made.items()) if not truth.attached(n)]
    leaves = [item for item in alone if plan.steps[item[0]].deed == "leaf"]
    first = leaves or alone[::-1]
    return first[0] if first else None


def joined_before(plan: Plan, truth: Truth) -> list[str]:
    """Indexes that stood on a partition before this change and are a part of its index now: they would go with it."""
    return [
        clean_line(f"{step.schema}.{step.index}")
        for position, step in enumerate(plan.steps)
        if step.deed == "attach" and step.index_oid is not None and position not in truth.todo
    ]


async def clean(work: Work) -> None:
    """Remove one after the other, each again and again with growing pauses, until the catalog says that it is gone."""
    end, tries, last = time.monotonic() + PAGE_AFTER_S, 0, ""
    while True:
        eye = await fresh_eye(work)
        truth = await truth_of(work)
        wrong = other_server(work, eye) or truth.wrong
        theirs = joined_before(work.plan, truth) if work.give_up else []
        if theirs:
            wrong = f"indexes that were there before would go with the one of the whole: {', '.join(theirs[:5])}"
        if wrong:
            await needs_operator(work, wrong, [])
            return
        victim = next_victim(work.plan, truth, everything=work.give_up)
        if victim is None:
            await _cleaned(work)
            return
        if time.monotonic() > end:
            name = clean_line(f"{victim[1].schema}.{victim[1].name}")
            minutes = f"{PAGE_AFTER_S / 60:.0f} min"
            await needs_operator(work, f"{name} could not be removed in {minutes} ({last})", [f"DROP INDEX {name};"])
            return
        if victim[0] in truth.unseen:  # the deed renames it first: by its old name nobody would find it again
            await work.hold.set_part(victim[0], "begun", victim[1].oid)
        last = await _drop_once(work, victim) or await _forget(work, victim, truth)
        if last:
            await asyncio.sleep(pause(tries, unique=victim[1].unique and victim[1].ready and not victim[1].valid))
            tries += 1
        else:
            end, tries = time.monotonic() + PAGE_AFTER_S, 0


async def _forget(work: Work, victim: Victim, truth: Truth) -> str:
    """The journal's rows of what has gone: the index, and when it was that of a partitioned table, all that hung on it.
    Why it has not gone, or an empty string."""
    gone = [victim[0]]
    if victim[1].partitioned:
        gone += [n for n in truth.made if truth.attached(n)]
    still = await truth_of(work)
    stands = [*still.made, *([still.leftover[0]] if still.leftover is not None else [])]
    for position in gone:
        if position not in stands:
            await work.hold.set_part(position, "cleaned", None)
    return "the server said that it is gone, the catalog has it yet" if victim[0] in stands else ""


async def _cleaned(work: Work) -> None:
    if not work.give_up:
        await settle(work)
        return
    await work.close_door()
    outcome = f"{work.why.sentence or 'given up'}; all that was built is removed"
    await work.hold.advance(State.FAILED, "failed", {"outcome": outcome})


async def _drop_once(work: Work, victim: Victim) -> str:
    """One try. Why it did not work, or an empty string."""

    async def find(_work: Work, _eye: Session) -> tuple[IndexFacts | None, str]:
        return victim[1], ""  # known by its OID, which the deed pins

    return await drop_once(work, find, position=victim[0], made_by_us=work.give_up)
