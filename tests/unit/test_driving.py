"""Carrying a change out step by step: who may, what is waited for and what a signal does; no server is needed for that."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import drive
from indexpilot_tui.engine.model.change import State, Step
from indexpilot_tui.errors import ConnectError, RefusedError, ServerError
from indexpilot_tui.settings.model import Settings
from tests.unit.bench_of_changes import Noted, work
from tests.unit.desk import PLAN, change

PARTED = replace(PLAN, steps=(Step("root", "x", "public", "orders", 1, "i"),))


def proving(plan: Any = PLAN, **changed: Any) -> Any:
    made = work(change(State.VERIFYING, plan=plan), **changed)
    made.hold.state = State.VERIFYING
    return made


async def test_a_server_that_is_away_is_waited_for_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = [ConnectError("away")] * 3 + [None] + [ConnectError("away")] * 500

    async def step(work: Any) -> None:
        if (error := tries.pop(0)) is not None:
            raise error

    clock = [1000.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(drive, "STEPS", {State.VERIFYING: step})
    made = proving()
    made.hold.book = SimpleNamespace(jot=lambda *_: None)
    with pytest.raises(ConnectError):
        await drive.drive(made)
    assert clock == [1000.0 + 3 + 121]  # counted anew after a step that worked; at 120 s it is tried once more
    tries[:] = [RefusedError("no")]
    with pytest.raises(RefusedError):
        await drive.drive(made)
    for field, value in (("leave", True), ("fenced", True)):
        made = proving()
        setattr(made if field == "leave" else made.hold, field, value)
        await drive.drive(made)
    made = proving()
    made.hold.state = State.DONE
    await drive.drive(made)  # nothing is left to do


@pytest.mark.parametrize("state", list(State))
async def test_only_what_waits_may_begin(state: State) -> None:
    made = proving()
    made.hold.state = state
    made.hold.book = SimpleNamespace(jot=lambda *_: None)
    assert await drive._may_begin(made) is (state in (State.PROPOSED, State.APPROVED, State.QUEUED))


async def test_a_change_of_several_steps_goes_its_own_way() -> None:
    went: list[str] = []

    def way(name: str) -> Any:
        async def go(work: Any) -> None:
            went.append(name)

        return go

    step = drive._either(way("single"), way("several"))
    await step(proving())
    await step(proving(PARTED))
    assert went == ["single", "several"]


@pytest.mark.parametrize(("fenced", "done", "waits"), [(True, False, True), (False, False, False), (True, True, False)])
async def test_a_statement_that_is_theirs_now_is_not_cancelled(
    monkeypatch: pytest.MonkeyPatch, fenced: bool, done: bool, waits: bool
) -> None:
    waited: list[Any] = []

    async def wait(tasks: Any) -> None:
        waited.append(tasks)

    async def close() -> None: ...

    monkeypatch.setattr(asyncio, "wait", wait)
    for given in (True, False):
        made = proving(observer=SimpleNamespace(close=close), task=Ending(done) if given else None)
        made.hold.fenced, made.hold.close = fenced, close
        waited.clear()
        await drive._leave(made)
        assert bool(waited) is (waits and given)


class Ending:
    """A statement of ours."""

    def __init__(self, done: bool) -> None:
        self._done = done

    def done(self) -> bool:
        return self._done


@pytest.mark.parametrize(
    ("parent_id", "rollback", "decision", "resume"),
    [(None, False, None, False), (5, True, None, True), (5, False, "finish", False), (None, False, "repair", True)],
)
async def test_what_is_opened_for_a_change(
    monkeypatch: pytest.MonkeyPatch, parent_id: int | None, rollback: bool, decision: str | None, resume: bool
) -> None:
    asked: list[str] = []

    class Journal:
        async def change(self, change_id: int) -> Any:
            asked.append(f"change {change_id}")
            return change(State.APPROVED, id=change_id, parent_id=parent_id if change_id == 1 else None)

        async def run(self, change_id: int) -> Any:
            return SimpleNamespace(rollback=rollback, attempts=2, decision=decision)

        async def must_write(self) -> None:
            asked.append("must write")

    async def opened(*_: Any, **__: Any) -> Any:
        return Journal()

    monkeypatch.setattr(drive, "open_journal", opened)
    monkeypatch.setattr(drive, "connect", opened)
    monkeypatch.setattr(drive.Book, "of", lambda *_: None)
    job: Any = SimpleNamespace(target=None, settings=Settings(), change_id=1, resume=resume)
    made, _ = await drive._open(job)
    assert asked == ["change 1", *(["change 5"] if parent_id else []), *([] if resume else ["must write"])]
    assert (made.rollback, made.repair, made.attempts) == (rollback, decision == "repair", 2)


@pytest.mark.parametrize(("resume", "ours", "driven"), [(True, True, True), (True, False, False), (False, True, True),
                                                        (False, False, False)])  # fmt: skip
async def test_who_holds_a_change_carries_it_out(
    monkeypatch: pytest.MonkeyPatch, resume: bool, ours: bool, driven: bool
) -> None:
    did: list[str] = []
    made = proving()
    made.hold.book = SimpleNamespace(jot=lambda action, detail: did.append(action))

    def doing(name: str, answer: Any = None) -> Any:
        async def do(*_: Any) -> Any:
            did.append(name)
            return answer

        return do

    monkeypatch.setattr(drive, "_open", doing("open", (made, None)))
    monkeypatch.setattr(drive, "take_over", doing("take over", ours))
    monkeypatch.setattr(drive, "_may_begin", doing("may begin", ours))
    monkeypatch.setattr(drive, "drive", doing("drive"))
    monkeypatch.setattr(drive, "_leave", doing("leave"))
    monkeypatch.setattr(drive, "_listen", lambda hold: did.append("listen"))
    job: Any = SimpleNamespace(resume=resume)
    steps = ["take over" if resume else "may begin", *(["drive"] if driven else []), "leave"]
    assert await drive.carry_out(job) == 0
    assert did == ["open", *steps]  # nobody lent us the process, so its signals are not ours
    did.clear()
    assert await drive.carry_out(job, lambda error: did.append(f"ready {error}")) == 0
    assert did == ["open", "listen", "ready None", *steps]


async def test_a_change_that_cannot_be_opened_is_told_to_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any) -> Any:
        raise ServerError("refused")

    monkeypatch.setattr(drive, "_open", refused)
    told: list[str | None] = []
    job: Any = SimpleNamespace(resume=False)
    assert await drive.carry_out(job, told.append) == 3
    assert told == ["refused"]
    with pytest.raises(ServerError):
        await drive.carry_out(job)


async def test_a_signal_stops_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[Any, Any] = {}
    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", handlers.__setitem__, raising=False)
    for asked in (None, "bob"):
        held: Any = Noted(abort=asked)
        drive._listen(held)
        for hang_up in (signal.SIGHUP, signal.SIGINT):
            handlers[hang_up]()
        assert held.abort == asked
        handlers[signal.SIGTERM]()
        assert (held.terminated, held.abort) == (True, asked or "the machine: the executor got SIGTERM")
