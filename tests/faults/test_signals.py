"""Family 5: the executor is killed, told to end, hung up on or stopped, in each of its states. What is left is brought to an
end by the next start alone; one that was only stopped wakes up fenced and does nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.changes.executor import LOCK_CLASS
from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.model.change import END_STATES, Change, State
from indexpilot_tui.localpg import LocalCluster
from tests.faults import oracle
from tests.faults.hooked import Hook
from tests.faults.scenes import LAST_WAIT, OLD_SNAPSHOT, UNIQUE, ended, phase, until
from tests.faults.workshop import Workshop, actions, alive, check_intents, make_workshop, story

KILL, TERM, HANG_UP, STOP = "SIGKILL", "SIGTERM", "SIGHUP and SIGINT", "SIGSTOP"
SIGNALS = (KILL, TERM, HANG_UP, STOP)

# The write after which the executor stands, and what it takes to come there
POINTS = {
    "approved": "gates",  # asked, not claimed
    "queued": "requeued",
    "starting": "claimed",
    "starting, backend known": "backend",
    "running, nothing sent": "ddl.intent",
    "running": "phase",
    "cancelling": "cancel.intent",
    "cleaning": "leftover",
    "cleaning, nothing sent": "clean.intent",
    "verifying": "verify.intent",
    "observing": "verified",
}
HELD = ("running", "cancelling", "cleaning", "cleaning, nothing sent")  # by an old snapshot
ABORTED = ("cancelling", "cleaning", "cleaning, nothing sent")


async def to_the_point(
    workshop: Workshop, point: str, hook: Hook
) -> tuple[int, int, psycopg.Connection[tuple[object, ...]] | None]:
    """A change whose executor stands there: (change, executor, who holds the build up)."""
    change_id = await workshop.approved(UNIQUE)
    held = workshop.blocker(*OLD_SNAPSHOT) if point in HELD else None
    if point == "queued":  # another session has the table's lock for a moment
        held = workshop.blocker(f"select pg_advisory_lock({LOCK_CLASS}, ('app.t'::regclass::oid::int8 - 2147483648)::int4)")
    pid = await workshop.spawn(change_id, hook=hook)
    if point in ABORTED:
        await phase(workshop, LAST_WAIT, change_id)
        await workshop.journal.request_abort(change_id, "not tonight")
    try:
        await until(lambda: hook.here, 25, f"the executor at {point}")
    except AssertionError:
        raise AssertionError(f"never at {point}:\n{story(await workshop.journal.change(change_id))}") from None
    return change_id, pid, held


async def see_to_the_end(workshop: Workshop, change_id: int) -> Change:
    """What the next console does at its start, until there is nothing left to do."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
        change = await workshop.journal.change(change_id)
        if change.state is State.APPROVED:  # nothing had begun: it is started as if new
            await workshop.spawn(change_id)
            change = await workshop.until(change_id, State.DONE, State.FAILED, seconds=40)
        if change.ended:
            return change
        await asyncio.sleep(1)
    raise AssertionError(f"{change.state} and nothing more happens\n{story(change)}")


async def play(workshop: Workshop, point: str, how: str, folder: Path) -> None:
    """One signal at one point, and what becomes of it."""
    flag = folder / how.split(" ", maxsplit=1)[0]
    hook = Hook(at=POINTS[point], flag=str(flag))
    change_id, pid, held = await to_the_point(workshop, point, hook)
    if how == STOP:
        os.kill(pid, signal.SIGSTOP)
        await stopped(workshop, change_id, pid, held, hook)
        return
    names = {KILL: ("SIGKILL",), TERM: ("SIGTERM",), HANG_UP: ("SIGHUP", "SIGINT")}[how]
    for name in names:
        os.kill(pid, getattr(signal, name))
    await asyncio.sleep(0.2)
    if how == KILL:
        assert not alive(pid)
    else:
        assert alive(pid)
    hook.release()
    if held is not None:
        await asyncio.sleep(1.5)  # the guards have seen what there is to see
        held.close()
    if how != KILL:
        await ended(pid, 30)
    change = await see_to_the_end(workshop, change_id)
    judge(change, point, how)


async def stopped(
    workshop: Workshop, change_id: int, pid: int, held: psycopg.Connection[tuple[object, ...]] | None, hook: Hook
) -> None:
    """A second executor takes over, ends it; then the first wakes up."""
    task = asyncio.create_task(see_to_the_end(workshop, change_id))
    if held is not None:
        with suppress(AssertionError):
            await workshop.until_event(change_id, "takeover", 12)
        held.close()
    change = await asyncio.wait_for(task, 60)
    before, sent = actions(change), oracle.deeds(workshop)
    hook.release()
    os.kill(pid, signal.SIGCONT)
    await ended(pid, 30)
    after = await workshop.journal.change(change_id)
    late = [a for a in actions(after)[len(before) :] if a not in ("gates", "apply.refused")]
    assert late == [], f"what the first did when it woke up:\n{story(after)}"
    assert oracle.deeds(workshop) == sent
    assert after.state is change.state


def judge(change: Change, point: str, how: str) -> None:
    assert change.state in END_STATES, story(change)
    made = change.state is State.DONE
    if point in ("verifying", "observing") or (how == HANG_UP and point not in ABORTED):
        assert made, story(change)
    if point in ABORTED or (point == "starting" and how == KILL):
        assert not made, story(change)
    assert bool(change.index_valid) == made
    check_intents(change)


@pytest.mark.family(5)
@pytest.mark.parametrize("point", list(POINTS))
async def test_every_signal_there(
    cluster18: LocalCluster, point: str, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    """One workshop for each signal, all at once: most of the time goes by waiting for a lease to end."""
    async with AsyncExitStack() as stack:
        shops = [await stack.enter_async_context(make_workshop(cluster18)) for _ in SIGNALS]
        results = await asyncio.gather(
            *(play(shop, point, how, tmp_path) for shop, how in zip(shops, SIGNALS, strict=True)), return_exceptions=True
        )
        wrong = [(how, result) for how, result in zip(SIGNALS, results, strict=True) if isinstance(result, BaseException)]
        for how, result in wrong:
            print(f"-- {how}: {result!r}")
        if wrong:
            raise wrong[0][1]
    record_property("injected", len(SIGNALS))  # type: ignore[operator]


@pytest.mark.family(5)
async def test_a_successor_is_killed_as_well(workshop: Workshop, tmp_path: Path) -> None:
    """State unknown: the one who took over dies right after it has said that the first one is lost."""
    first = Hook(at="phase", flag=str(tmp_path / "first"))
    change_id, pid, held = await to_the_point(workshop, "running", first)
    os.kill(pid, signal.SIGKILL)
    second = Hook(at="lost", flag=str(tmp_path / "second"))
    successor = await workshop.spawn(change_id, resume=True, hook=second)
    await until(lambda: second.here, 20, "the successor at `lost`")
    os.kill(successor, signal.SIGKILL)
    assert held is not None
    held.close()
    assert (await workshop.journal.change(change_id)).state is State.UNKNOWN
    change = await see_to_the_end(workshop, change_id)
    assert change.state is State.FAILED, story(change)
    assert actions(change).count("takeover") == 2
