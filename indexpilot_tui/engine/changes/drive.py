"""Carrying one change out, from whatever state it is in to one in which nothing is left to do."""

from __future__ import annotations

import asyncio
import signal
import time
import traceback
from collections.abc import Awaitable, Callable

from indexpilot_tui.engine.changes import begin, cleaning, finish, group, group_clean, prove, settle
from indexpilot_tui.engine.changes.backlog import away
from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.changes.hold import RECONNECT_S, Hold
from indexpilot_tui.engine.changes.job import Job, open_journal
from indexpilot_tui.engine.changes.takeover import take_over
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import Run, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.errors import OK, UNKNOWN, IndexPilotError

Step = Callable[[Work], Awaitable[None]]


def _either(single: Step, several: Step) -> Step:
    """A change of one statement, or one of several steps on a partitioned table."""

    async def step(work: Work) -> None:
        await (several if work.plan.steps else single)(work)

    return step


# What each state asks for. A state that is not here is none of an executor's business.
STEPS: dict[State, Step] = {
    State.PROPOSED: begin.queue_and_claim,  # a rollback, covered by its parent's approval
    State.APPROVED: begin.queue_and_claim,
    State.QUEUED: begin.queue_and_claim,
    State.STARTING: begin.start,
    State.RUNNING: _either(settle.follow, group.follow),
    State.CANCELLING: _either(settle.follow, group.follow),
    State.UNKNOWN: _either(settle.follow, group.follow),
    State.CLEANING: _either(cleaning.clean, group_clean.clean),
    State.VERIFYING: prove.verify,
    State.OBSERVING: finish.observe,
}


async def carry_out(job: Job, ready: Callable[[str | None], None] | None = None) -> int:
    """Everything an executor process does. Exit status 0, or 3 when it had to leave the change to reconcile.

    `ready` is called once, when the connections stand (None) or with the message of why they do not; who gives it
    lends us the process, signals included.
    """
    try:
        work, run = await _open(job)
    except IndexPilotError as exc:
        if ready is None:
            raise
        ready(str(exc))
        return UNKNOWN
    if ready is not None:
        _listen(work.hold)
        ready(None)
    book = work.hold.book
    try:
        if await (take_over(work, run) if job.resume else _may_begin(work)):
            await drive(work)
    except StaleEpochError as exc:
        book.jot("fenced", {"why": exc.message})
    except IndexPilotError as exc:
        book.jot("left", {"state": work.state.value, "why": str(exc)})
        return UNKNOWN
    except Exception:  # a defect of ours: on paper, and the lease runs out for reconcile
        book.jot("crashed", {"state": work.state.value, "traceback": traceback.format_exc()})
        raise
    finally:
        await _leave(work)
    return OK


async def _may_begin(work: Work) -> bool:
    """Whether there is something to start. A change that is being carried out has its holder: its epoch is not ours,
    though we have read it."""
    if work.state in (State.PROPOSED, State.APPROVED, State.QUEUED):
        return True
    work.hold.book.jot("nothing to start", {"state": work.state.value})
    return False


async def _open(job: Job) -> tuple[Work, Run]:
    journal = await open_journal(job.target, job.settings)
    try:
        change = await journal.change(job.change_id)
        parent = await journal.change(change.parent_id) if change.parent_id is not None else None
        run = await journal.run(change.id)
        book = Book.of(change.plan.system_identifier, change.plan.database, change.id)
        if not job.resume:  # what is to be looked after waits for its journal; what is to begin is refused at once
            await journal.must_write()
        observer = await connect(job.target, Purpose.OBSERVER, job.settings, application_name=f"ixp-eye:{change.id}")
    except BaseException:
        await journal.close()
        raise
    lease_s = float(job.settings.production_safeguards.observer.lease_seconds)
    hold = Hold(journal, lambda: open_journal(job.target, job.settings), book, change_id=change.id, lease_s=lease_s)
    hold.epoch, hold.state = change.epoch, change.state
    work = Work(
        job.target, job.settings, hold, change, observer, parent=parent if run.rollback else None, attempts=run.attempts,
        repair=run.decision == "repair",
    )  # fmt: skip
    return work, run


async def drive(work: Work) -> None:
    """Step by step until a state has no step, or the change is left in a state in which others may act.

    A server or a control schema that is away, or a lock in the way, is waited for up to RECONNECT_S: every step begins with
    reading what is so now.
    """
    away_since: float | None = None
    while not work.leave and not work.hold.fenced and (step := STEPS.get(work.state)) is not None:
        try:
            await step(work)
        except IndexPilotError as exc:
            if not away(exc):
                raise
            now = time.monotonic()
            away_since = away_since or now
            if now - away_since > RECONNECT_S:
                raise
            work.waits_for(exc)
            work.hold.book.jot("away", {"state": work.state.value, "why": exc.message})
            await asyncio.sleep(1)
        else:
            away_since, work.waiting_for = None, ""


async def _leave(work: Work) -> None:
    if work.task is not None and not work.task.done() and work.hold.fenced:
        await asyncio.wait({work.task})  # it is theirs now; closing our end would cancel it
    await work.close_door()
    await work.observer.close()
    await work.hold.close()


def _listen(hold: Hold) -> None:
    """SIGTERM stops the build in order (cancel, clean, log); a hang-up or Ctrl-C in a terminal is none of ours."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        hold.terminated = True
        hold.abort = hold.abort or "the machine: the executor got SIGTERM"

    loop.add_signal_handler(signal.SIGTERM, stop)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(ignored, lambda: None)
