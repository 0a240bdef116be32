"""Watching one statement of ours until it has ended, and cancelling it when a guard says so."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg

from indexpilot_tui.engine.changes.catalog import Backend, question
from indexpilot_tui.engine.changes.executor import outcome_of
from indexpilot_tui.engine.changes.guard import Judge, Reading, Rules, Stop, look
from indexpilot_tui.engine.changes.pressure import Pressure
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.errors import IndexPilotError

RESEND_S = 3.0  # a cancel can be swallowed (measured: while it waits for a synchronous standby)
TERMINATE_S = 10.0  # reference, section 1: terminate after 10 s
OBSERVER_LOST_S = 3.0
LOOK_S = 1.5  # some milliseconds when all is well; a session that does not answer is a session that sees nothing
RENEWALS_LOST = 2
WORTH_TELLING_S = 2.0  # a transaction so old holds us up, others come and go
RIVALS_TOLD = 5  # a row of the log each; in an outage there may be hundreds
RIVAL = (
    "waits for the table and holds a snapshot: unless it gives up or is let through, it kills the build at its end (40P01)"
)
ANSWER_S = 3.0  # the backend has ended our statement, or itself, for so long: then its answer was lost on the way
_BROKEN = (IndexPilotError, psycopg.Error, TimeoutError, OSError, ValueError)


@dataclass(slots=True)
class Ended:
    """How a statement of ours ended. `error` is the server's answer; None with `answered` means success. Without an answer
    (`answered` False) only the catalog knows. `stop`: why we cancelled it, if we did. `rivals`: who was seen waiting."""

    answered: bool
    error: BaseException | None
    stop: Stop | None
    rivals: tuple[str, ...]


@dataclass(slots=True)
class _Watch:
    work: Work
    backend: Backend
    judge: Judge
    pressure: Pressure | None
    task: asyncio.Task[None] | None
    answered: bool
    stop: Stop | None = None
    stopped_at: float = 0.0
    sent_at: float = 0.0
    terminated: bool = False
    told: tuple[str, int | None] = ("", None)  # phase and whom we wait for, as the log has it
    blind_since: float | None = None
    over_since: float | None = None  # since when the server has no statement of ours, and we have no answer
    rivals: dict[int, str] = field(default_factory=dict)


async def watch(
    work: Work, backend: Backend, rules: Rules, task: asyncio.Task[None] | None, already: Stop | None = None
) -> Ended:
    """Watch until the statement has ended. `task` is our own statement, or None for a backend that was adopted;
    `already` is why a predecessor was cancelling it: the cancel is sent again.

    Raises StaleEpochError once we are fenced: our statement, if any, has ended by then, and nothing was done to it.
    """
    limits = work.settings.production_safeguards.observer
    # a way back is not held up by load: it may be what ends it
    pressure = Pressure(work, backend) if rules.kind in ("create", "reindex") and not work.rollback else None
    w = _Watch(
        work, backend, Judge(limits, rules), pressure, task, answered=task is not None, stop=already,
        stopped_at=time.monotonic(),
    )  # fmt: skip
    try:
        if pressure is not None:
            pressure.start()
        while True:
            if w.task is not None and w.task.done() and not _lost(w):
                break
            if work.hold.fenced:
                await _sit_out(w)
            try:
                over = await _tick(w)
            except StaleEpochError:
                await _sit_out(w)
                raise
            if over and w.task is None:
                break
            await _pause(w, limits.poll_seconds)
    finally:
        if pressure is not None:
            await pressure.close()
    error = w.task.exception() if w.task is not None else None
    seconds = round(time.monotonic() - w.stopped_at, 1)
    if w.stop is not None:
        await work.hold.note("backend.gone", {"seconds": seconds, "guard": w.stop.guard, **outcome_of(error)})
    return Ended(w.answered, error, w.stop, tuple(w.rivals.values()))


def _lost(w: _Watch) -> bool:
    """The connection broke before the answer: from now on the backend is watched, not the connection."""
    error = w.task.exception() if w.task is not None else None
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        w.task, w.answered = None, False
        return True
    return False


async def _sit_out(w: _Watch) -> None:
    """Fenced: whoever took over decides. Our connection stays open until the statement ends, since closing it would
    cancel what is theirs now; once the server is through with it, an answer that does not come is not waited for."""
    while w.task is not None and not w.task.done():
        await _pause(w, LOOK_S)
        try:
            async with asyncio.timeout(LOOK_S):
                reading = await look(await _eye(w), w.backend)
        except _BROKEN:
            continue
        if _over(w, reading, time.monotonic()):
            await _give_up(w)
    raise StaleEpochError("another executor has taken this change over")


async def _pause(w: _Watch, seconds: float) -> None:
    if w.task is None:
        await asyncio.sleep(seconds)
    else:
        await asyncio.wait({w.task}, timeout=seconds)


async def _tick(w: _Watch) -> bool:
    """One look and what follows from it. True when the backend is gone."""
    clock = time.monotonic()
    try:
        async with asyncio.timeout(LOOK_S):
            reading = await look(await _eye(w), w.backend)
    except _BROKEN as exc:
        await _blind(w, clock, exc)
        return False
    w.blind_since = None
    if await _unanswered(w, reading, clock) or reading.gone:
        return reading.gone
    if w.task is None and reading.idle:
        await _fence(w)
        return False
    _report(w, reading)
    if w.stop is None:
        lifted = w.work.hold.lifts("window", reading.now)
        stop = _outside(w) or w.judge.judge(reading, clock, window_lifted=lifted) or _pressed(w, reading)
        if stop is not None:
            await _begin_stop(w, stop, reading.progress)
    elif clock - w.stopped_at > TERMINATE_S and not w.terminated:
        await w.work.hold.protective("terminate.intent", {"guard": w.stop.guard, "after_s": round(clock - w.stopped_at, 1)})
        await _signal(w, "terminate")
        w.terminated = True
    elif clock - w.sent_at > RESEND_S and not w.terminated:
        await w.work.hold.protective("cancel.intent", {"guard": w.stop.guard, "again": True})
        await _signal(w, "cancel")
    return False


async def _unanswered(w: _Watch, reading: Reading, clock: float) -> bool:
    """Whether our connection was given up, since the server is through with our statement and no answer comes (measured: a
    network that swallows what passes lets a client wait for hours). The backend is watched from now on, and the catalog
    decides."""
    if not _over(w, reading, clock):
        return False
    await w.work.hold.note("answer.lost", {"pid": w.backend.pid, "gone": reading.gone})
    await _give_up(w)
    return True


def _over(w: _Watch, reading: Reading, clock: float) -> bool:
    """Whether the server has had no statement of ours for ANSWER_S, and we have no answer."""
    if w.task is None or w.task.done() or not (reading.idle or reading.gone):
        w.over_since = None
        return False
    w.over_since = clock if w.over_since is None else w.over_since
    return clock - w.over_since > ANSWER_S


async def _give_up(w: _Watch) -> None:
    """Hang up on our own statement: within a second the server notices that its client is gone, and ends it."""
    if w.task is not None and w.work.door is not None:
        await w.work.door.session.hang_up(w.task)
    w.task, w.answered = None, False


async def _fence(w: _Watch) -> None:
    """An adopted backend that runs nothing still belongs to somebody who may wake up and send more: it is ended."""
    if not w.terminated:
        await w.work.hold.protective("terminate.intent", {"why": "its executor does not answer", "pid": w.backend.pid})
        await _signal(w, "terminate")
        w.terminated = True


async def _eye(w: _Watch) -> Session:
    """The observer's session; a lost one is tried once a tick, not waited for."""
    work = w.work
    if work.observer.closed:
        async with asyncio.timeout(OBSERVER_LOST_S):
            work.observer = await connect(
                work.target, Purpose.OBSERVER, work.settings, application_name=f"ixp-eye:{work.change.id}"
            )
    return work.observer


def _outside(w: _Watch) -> Stop | None:
    """Reasons that are not seen on the server: an operator's word, a lease that cannot be renewed."""
    hold, rules = w.work.hold, w.judge.rules
    if hold.abort is not None and rules.abortable:
        return Stop("abort", "requested", "", f"stopped on request of {hold.abort}", False)
    if hold.failures >= RENEWALS_LOST and rules.stoppable:
        return Stop("lease", f"{hold.failures} failed", f"{RENEWALS_LOST}", "the control schema could not be reached", False)
    return None


def _pressed(w: _Watch, reading: Reading) -> Stop | None:
    """What the slower guards have found; they look only while the build works."""
    if w.pressure is None:
        return None
    w.pressure.phase = reading.phase
    return w.pressure.verdict


def _report(w: _Watch, reading: Reading) -> None:
    """Phase changes and the index's OID go to the journal, behind: no guard waits for a slow journal."""
    hold = w.work.hold
    for waiter in reading.waiters:
        new = waiter.pid not in w.rivals
        w.rivals[waiter.pid] = f"pid {waiter.pid} {waiter.mode} ({waiter.who})"
        if new and waiter.snapshot and len(w.rivals) <= RIVALS_TOLD and w.judge.rules.kind in ("create", "reindex"):
            detail = {"pid": waiter.pid, "mode": waiter.mode, "who": waiter.who, "why": RIVAL}
            hold.later("rival", detail)
    told = (str(reading.progress["phase"]), _stuck_behind(reading))
    if told != w.told:
        w.told = told
        hold.later("phase", reading.progress)
    if reading.index_oid is not None and w.judge.rules.kind in ("create", "reindex"):
        w.work.index_seen(reading.index_oid)


def _stuck_behind(reading: Reading) -> int | None:
    """The oldest of those whom we wait for, once it is worth a row of the log: short transactions come and go."""
    for holder in reading.holders:
        if not holder.pid or holder.age_s is None or holder.age_s > WORTH_TELLING_S:
            return holder.pid
    return None


async def _begin_stop(w: _Watch, stop: Stop, progress: dict[str, Any]) -> None:
    intent = {"guard": stop.guard, "value": stop.value, "limit": stop.limit, "why": stop.sentence, **progress}
    own_state = w.judge.rules.kind in ("clean", "finish", "step")  # these cancel within the state that they are in
    await w.work.hold.protective("cancel.intent", intent, None if own_state else State.CANCELLING)
    w.stop, w.stopped_at = stop, time.monotonic()
    await _signal(w, "cancel")


async def _signal(w: _Watch, how: str) -> None:
    w.sent_at = time.monotonic()
    params = {"pid": w.backend.pid, "backend_start": w.backend.start}
    try:
        eye = await _eye(w)
        sent = await eye.value(question(how, eye), params)
    except _BROKEN as exc:
        sent = await _signal_alone(w)
        if not sent:
            await w.work.hold.note(f"{how}.failed", {"why": str(exc)[:200] or type(exc).__name__})
            return
    await w.work.hold.note(f"{how}.sent", {"pid": w.backend.pid, "sent": sent})


async def _signal_alone(w: _Watch) -> str:
    """Cancel without the observer, on a connection of its own; empty when that does not work either. Then there is still
    hanging up (`_blind`)."""
    door = w.work.door
    if door is None or w.task is None:
        return ""
    try:
        await door.cancel_from_here()
    except _BROKEN:
        return ""
    return "through the executor's own connection"


async def _blind(w: _Watch, clock: float, exc: BaseException) -> None:
    """Nobody watches: after a short while our own build is cancelled. A drop is left to finish (it cannot be undone)."""
    if w.blind_since is None:
        w.blind_since = clock
    blind = clock - w.blind_since
    if blind > OBSERVER_LOST_S and w.stop is None and w.judge.rules.stoppable and w.task is not None:
        stop = Stop("observer", f"{blind:.1f} s", f"{OBSERVER_LOST_S:g} s", "the observing session was lost", True)
        await _begin_stop(w, stop, {"error": str(exc)[:200] or type(exc).__name__})
    elif w.stop is not None and w.task is not None and clock - w.stopped_at > TERMINATE_S:
        await w.work.hold.note("hung.up", {"why": "nobody sees it, and it does not end", "pid": w.backend.pid})
        await _give_up(w)
