"""Taking a change over whose executor is gone: wait for its lease, raise the epoch, learn what it had done."""

from __future__ import annotations

import asyncio
import time

from indexpilot_tui.engine.changes.catalog import Backend
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.journal.journal import Run
from indexpilot_tui.engine.model.change import Change, Event, State

_TAKEN = "42P07"


async def take_over(work: Work, run: Run) -> bool:
    """Become the holder. False when somebody else holds or finished it, or when it waits in the queue for nobody.

    Waits as long as a lease lasts: a live executor renews in that time, a dead one does not.
    """
    journal = await work.hold.journal()
    if run.state is State.QUEUED:
        if not run.lease_ended:
            return False
        lost = "the executor was lost while it waited in the queue"
        work.why, work.resumed = Why(work.change.outcome if run.decision else lost, True), True
        work.requeued = True
        work.hold.start_beat()
        return True  # an ordinary claim decides who goes on
    end = time.monotonic() + work.hold.lease_s + 2.0
    while True:
        epoch = await journal.takeover(work.change.id, work.hold.lease_s)
        if epoch is not None:
            break
        if time.monotonic() > end:
            return False
        await asyncio.sleep(1)
    work.change = change = await journal.change(work.change.id)
    run = await journal.run(change.id)
    work.hold.epoch, work.hold.state = epoch, run.state
    work.attempts, work.timeline, work.resumed = run.attempts, run.timeline, True
    work.index_oid = change.index_oid
    if run.backend_pid is not None and run.backend_start is not None:
        work.backend = Backend(run.backend_pid, run.backend_start)
    last = since_claim(change)
    work.began = any(event.action == "ddl.intent" for event in last)
    work.foreign = any(event.action == "ddl.outcome" and event.detail.get("sqlstate") == _TAKEN for event in last)
    for event in last:
        if event.action == "ddl.intent":
            work.before = event.detail.get("before") or {}
        elif event.action == "copy":
            work.copy_oid = event.detail.get("oid")
        elif event.action == "give_up" or (event.action == "resolved" and event.detail.get("to") == State.CLEANING):
            work.give_up = True
    if change.plan.steps:
        begun = [n for n, part in (await journal.parts(change.id)).items() if part.state == "begun"]
        work.part = begun[-1] if begun else None
    work.why = Why(_reason(last), False)
    work.hold.start_beat()
    if run.state in (State.STARTING, State.RUNNING):
        await work.hold.advance(State.UNKNOWN, "lost", {"why": "its executor is gone", "state": run.state.value})
    return True


def since_claim(change: Change) -> list[Event]:
    """The events of the last attempt."""
    events = list(change.events)
    starts = [n for n, event in enumerate(events) if event.action == "claimed"]
    return events[starts[-1] :] if starts else events


def _reason(events: list[Event]) -> str:
    """Why the predecessor's statement ended, as far as the log tells."""
    for event in reversed(events):
        if event.action == "cancel.intent" and event.detail.get("why"):
            return str(event.detail["why"])
        if event.action == "ddl.outcome" and event.detail.get("why"):
            return str(event.detail["why"])
        if event.action == "ddl.outcome" and event.detail.get("ok") is False:
            return f"the server answered {event.detail.get('sqlstate')}: {event.detail.get('message')}"
    return "its executor was lost"
