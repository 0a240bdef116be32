"""Removing our own INVALID leftover: part of the change, since it costs writes and, being UNIQUE, rejects rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg

from indexpilot_tui.engine.changes.catalog import IndexFacts
from indexpilot_tui.engine.changes.executor import Door, outcome_of
from indexpilot_tui.engine.changes.guard import Rules
from indexpilot_tui.engine.changes.settle import (
    back_or_failed,
    decide_rebuild,
    fresh_eye,
    leftover_of,
    needs_operator,
    other_server,
)
from indexpilot_tui.engine.changes.watch import watch
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import Claim, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear_own
from indexpilot_tui.engine.safeguards.gates import refusals
from indexpilot_tui.errors import ConnectError, IndexPilotError

PAGE_AFTER_S = 900.0  # reference, section 1: a leftover that lives longer needs a person
UNIQUE_PAUSE_S = 1.0
_BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


Find = Callable[[Work, Session], Awaitable[tuple[IndexFacts | None, str]]]


def pause(tries: int, *, unique: bool) -> float:
    """Seconds before the next try. A UNIQUE leftover rejects rows of the application: it is not left alone for long."""
    seconds = _BACK_OFF_S[min(tries, len(_BACK_OFF_S) - 1)]
    return min(seconds, UNIQUE_PAUSE_S) if unique else seconds


async def clean(work: Work) -> None:
    """Drop the leftover, again and again with growing pauses, until the catalog says that it is gone."""
    end = time.monotonic() + PAGE_AFTER_S
    tries, last = 0, ""
    while True:
        eye = await fresh_eye(work)
        facts, wrong = await leftover_of(work, eye)
        wrong = other_server(work, eye) or wrong
        if wrong:
            await needs_operator(work, wrong, [])
            return
        if facts is None and work.rebuilding:
            await work.hold.note("cleaned", {"tries": tries})
            await decide_rebuild(work, eye)
            return
        if facts is None:
            journal = await work.hold.journal()
            await journal.set_index(work.change.id, work.hold.epoch, None, None)
            await work.hold.note("cleaned", {"oid": work.index_oid, "tries": tries})
            await back_or_failed(work, "requeued", "its leftover is removed")
            return
        if facts.valid:
            await work.hold.advance(State.VERIFYING, "verify.intent", {"oid": facts.oid, "after": "it is valid after all"})
            return
        if time.monotonic() > end:
            name = clean_line(f"{facts.schema}.{facts.name}")
            await needs_operator(
                work,
                f"the INVALID leftover {name} could not be removed in {PAGE_AFTER_S / 60:.0f} min ({last})",
                [f"DROP INDEX CONCURRENTLY {name};"],
            )
            return
        last = await drop_once(work, _still_ours)
        await asyncio.sleep(pause(tries, unique=facts.unique and facts.ready) if last else 0)
        tries += 1


async def _still_ours(work: Work, eye: Session) -> tuple[IndexFacts | None, str]:
    """The leftover as it is at this moment, and why it is not dropped."""
    facts, wrong = await leftover_of(work, eye)
    return facts, wrong or ("it changed in between" if facts is None or facts.valid else "")


async def drop_once(work: Work, find: Find, *, position: int | None = None, made_by_us: bool = False) -> str:
    """One try to drop what `find` gives at the last moment. Why it did not work, or an empty string. `position` and
    `made_by_us`: of a finished part of a change on a partitioned table."""
    try:
        if work.door is None or work.door.session.closed:
            work.door = await Door.open(work.target, work.settings, work.hold, work.plan)
        if work.door is None:
            return "another session holds the lock for changes of this table"
        context = await work.gate_context(claimed=True, position=position)
        facts, wrong = await find(work, context.session)
        if facts is None or wrong:
            return wrong
        answer = await clear_own(context, Claim(work.change.id, work.hold.epoch, work.plan, None), "clean")
        if not isinstance(answer, Clearance):
            return "; ".join(v.evidence for v in refusals(answer))
        task = await work.door.start_cleaning(answer, facts, made_by_us=made_by_us)
        ended = await watch(work, work.door.backend, Rules("clean", None), task)
    except StaleEpochError:
        raise
    except ConnectError as exc:
        await asyncio.sleep(1)
        return exc.message
    except (IndexPilotError, psycopg.Error) as exc:
        return clean_line(str(exc), 300)
    part = {} if position is None else {"part": position}
    await work.hold.note("clean.outcome", {**part, **outcome_of(ended.error)})
    if ended.stop is not None:
        return ended.stop.sentence
    return "" if ended.answered and ended.error is None else str(outcome_of(ended.error).get("message", "no answer"))
