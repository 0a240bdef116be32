"""Watching a statement of ours: when it is stopped, how often that is said again, and when nobody sees it any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import watch as watching
from indexpilot_tui.engine.changes.guard import Holder, Judge, Reading, Rules, Stop, Waiter
from indexpilot_tui.engine.changes.watch import _Watch
from indexpilot_tui.engine.journal.journal import StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Observer, Window
from tests.unit.bench_of_changes import BACKEND, REBUILD, work
from tests.unit.desk import NOW, change

QUIET = Reading(
    now=NOW, gone=False, idle=False, waits_for="", phase="building index", index_oid=None, locker=None, lockers=(0, 0),
    blocks=(0, 0), waiters=(),
)  # fmt: skip
STOP = Stop("yield", "1 s", "1 s", "gave way", True)


class Statement:
    """A statement of ours that runs on; `error` once it has ended."""

    def __init__(self, done: bool = False, error: BaseException | None = None) -> None:
        self._done, self._error = done, error

    def done(self) -> bool:
        return self._done

    def exception(self) -> BaseException | None:
        return self._error


class Door:
    """What the executor's session was asked to do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.session = SimpleNamespace(hang_up=self._hang_up)

    async def _hang_up(self, task: Any) -> None:
        self.did.append("hang up")

    async def cancel_from_here(self) -> None:
        self.did.append("cancel")


def watched(kind: str = "create", *, task: Any = "running", **changed: Any) -> Any:
    made = work(changed.pop("of", None), door=Door())
    return _Watch(
        made, BACKEND, Judge(Observer(), Rules(kind, None)), None, Statement() if task == "running" else task, answered=True,
        **changed,
    )  # fmt: skip


class Server:
    """One reading after the other, and what was signalled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.readings, self.signals = 1000.0, [QUIET], list[str]()
        self.refuses: BaseException | None = None

        async def look(*_: Any) -> Reading:
            found: Any = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
            if isinstance(found, BaseException):
                raise found
            return found  # type: ignore[no-any-return]

        async def eye(w: Any) -> Any:
            return SimpleNamespace(value=self.signal)

        monkeypatch.setattr(watching, "look", look)
        monkeypatch.setattr(watching, "_eye", eye)
        monkeypatch.setattr(watching, "question", lambda how, session: how)
        monkeypatch.setattr(time, "monotonic", lambda: self.clock)

    async def signal(self, how: str, params: Any) -> bool:
        if self.refuses is not None:
            raise self.refuses
        assert params == {"pid": 55, "backend_start": NOW}
        self.signals.append(how)
        return True

    async def tick(self, w: Any, seconds: float, *readings: Any) -> bool:
        """A tick so many seconds later."""
        self.clock += seconds
        self.readings = list(readings) or [QUIET]
        return await watching._tick(w)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(monkeypatch)
    yield made
    monkeypatch.undo()


def waiting(seconds: float, **changed: Any) -> Reading:
    return replace(QUIET, waiters=(Waiter(7, "AccessExclusiveLock", seconds, "deploy", **changed),))


async def test_a_quiet_build_is_left_alone_and_one_that_is_gone_is_over(server: Server) -> None:
    w = watched()
    for _ in range(100):
        assert not await server.tick(w, 0.5)
    assert (server.signals, w.work.hold.actions, w.stop) == ([], ["phase"], None)
    adopted = watched(task=None)
    assert not await server.tick(adopted, 0.5)
    assert await server.tick(adopted, 0.5, replace(QUIET, gone=True))
    assert server.signals == []


async def test_a_cancel_that_is_swallowed_is_sent_again_and_then_the_backend_is_ended(server: Server) -> None:
    w = watched()
    await server.tick(w, 0.5, waiting(9.0))
    assert (server.signals, w.stop.guard, w.work.hold.told[-2][:2]) == (
        ["cancel"],
        "yield",
        (State.CANCELLING, "cancel.intent"),
    )
    await server.tick(w, 3.0)
    assert server.signals == ["cancel"]
    await server.tick(w, 0.1)  # 3.1 s after the first
    assert server.signals == ["cancel", "cancel"]
    await server.tick(w, 3.0)
    await server.tick(w, 3.9)  # 10 s after the stop, 6.9 after the last cancel
    assert server.signals == ["cancel"] * 3
    await server.tick(w, 0.1)
    assert server.signals == ["cancel"] * 3 + ["terminate"]
    for _ in range(5):
        await server.tick(w, 20.0)
    assert server.signals.count("terminate") == 1
    assert server.signals.count("cancel") == 3


@pytest.mark.parametrize(
    ("kind", "state"),
    [("create", State.CANCELLING), ("drop", State.CANCELLING), ("clean", None), ("finish", None), ("step", None)],
)
async def test_some_are_cancelled_within_their_state(server: Server, kind: str, state: State | None) -> None:
    w = watched(kind)
    await server.tick(w, 0.5, waiting(9.0))
    assert next(to for to, action, _ in w.work.hold.told if action == "cancel.intent") is state


@pytest.mark.parametrize(
    ("kind", "abort", "failures", "guard"),
    [
        ("create", "bob", 0, "abort"), ("drop", "bob", 0, "abort"), ("clean", "bob", 0, None), ("create", None, 2, "lease"),
        ("create", None, 1, None), ("create", None, 3, "lease"), ("drop", None, 9, None), ("create", None, 0, None),
    ],
)  # fmt: skip
async def test_word_from_outside(server: Server, kind: str, abort: str | None, failures: int, guard: str | None) -> None:
    w = watched(kind)
    w.work.hold.abort, w.work.hold.failures = abort, failures
    await server.tick(w, 0.5)
    assert (w.stop.guard if w.stop else None) == guard


async def test_what_the_slow_guard_found_stops_it(server: Server) -> None:
    w = watched()
    w.pressure = SimpleNamespace(phase="", verdict=None)
    await server.tick(w, 0.5)
    assert (w.stop, w.pressure.phase) == (None, "building index")
    w.pressure.verdict = replace(STOP, guard="cpu")
    await server.tick(w, 0.5)
    assert w.stop.guard == "cpu"


async def test_a_bypass_lifts_the_end_of_the_window(server: Server) -> None:
    night = Rules("create", Window(end_hour=3))
    for lifted, stopped in ((True, False), (False, True)):
        w = watched()
        w.judge = Judge(Observer(), night)
        w.work.hold.lifted = lifted
        await server.tick(w, 0.5)
        assert (w.stop is not None) is stopped


async def test_an_observer_that_sees_nothing_stops_a_build_and_no_drop(server: Server) -> None:
    for kind, task, stopped in (("create", "running", True), ("drop", "running", False), ("create", None, False)):
        w = watched(kind, task=task)
        await server.tick(w, 0.5, OSError("lost"))
        await server.tick(w, 3.0, OSError("lost"))
        assert w.stop is None
        await server.tick(w, 0.1, OSError("lost"))
        assert (w.stop is not None) is stopped
    w = watched()
    for _ in range(3):  # one look in between, and it begins anew
        await server.tick(w, 2.0, OSError("lost"))
        await server.tick(w, 2.0)
    assert w.stop is None


async def test_what_nobody_sees_and_does_not_end_is_hung_up(server: Server) -> None:
    w = watched(stop=STOP, stopped_at=1000.0)
    await server.tick(w, 10.0, OSError("lost"))
    assert w.work.door.did == []
    await server.tick(w, 0.1, OSError("lost"))
    assert (w.work.door.did, w.task, w.answered) == (["hang up"], None, False)
    adopted = watched(stop=STOP, stopped_at=1000.0, task=None)
    await server.tick(adopted, 99.0, OSError("lost"))
    assert adopted.work.door.did == []
    running = watched()
    await server.tick(running, 99.0, OSError("lost"))
    assert running.work.door.did == []


@pytest.mark.parametrize("through", [{"idle": True}, {"gone": True}])
async def test_an_answer_that_does_not_come_is_not_waited_for(server: Server, through: dict[str, Any]) -> None:
    w = watched()
    ended = replace(QUIET, **through)
    await server.tick(w, 0.5, ended)
    await server.tick(w, 3.0, ended)
    assert w.task is not None
    await server.tick(w, 0.1, ended)
    assert (w.task, w.answered, w.work.door.did, w.work.hold.actions[-1]) == (None, False, ["hang up"], "answer.lost")
    again = watched()
    await server.tick(again, 0.5, ended)
    await server.tick(again, 2.0)  # it was at work in between
    await server.tick(again, 2.0, ended)
    await server.tick(again, 3.0, ended)
    assert again.task is not None
    answered = watched(task=Statement(done=True))
    await server.tick(answered, 0.5, ended)
    await server.tick(answered, 9.0, ended)
    assert answered.task is not None


async def test_an_adopted_backend_that_runs_nothing_is_ended_once(server: Server) -> None:
    w = watched(task=None)
    for _ in range(3):
        assert not await server.tick(w, 0.5, replace(QUIET, idle=True))
    assert server.signals == ["terminate"]


async def test_a_cancel_goes_another_way_when_the_observer_cannot(server: Server) -> None:
    for door, task, sent in ((True, "running", True), (False, "running", False), (True, None, False)):
        w = watched(task=task)
        server.refuses = ServerError("away")
        if not door:
            w.work.door = None
        await watching._signal(w, "cancel")
        assert w.work.hold.actions == (["cancel.sent"] if sent else ["cancel.failed"])


def test_a_connection_that_broke_is_no_answer() -> None:
    for error, lost in (
        (psycopg.OperationalError("lost"), True), (psycopg.errors.QueryCanceled("57014"), False), (None, False),
        (ServerError("x"), False),
    ):  # fmt: skip
        w = watched(task=Statement(True, error))
        assert watching._lost(w) is lost
        assert (w.task is None, w.answered) == (lost, not lost)
    assert not watching._lost(watched(task=None))


def holder(pid: int, age: float | None) -> Reading:
    return replace(QUIET, holders=(Holder(pid, age, "x"),))


def test_whom_we_wait_for_is_told_once_it_is_worth_it() -> None:
    assert watching._stuck_behind(QUIET) is None
    assert watching._stuck_behind(holder(5, 2.0)) is None
    assert watching._stuck_behind(holder(5, 2.1)) == 5
    assert watching._stuck_behind(holder(5, None)) == 5
    assert watching._stuck_behind(holder(0, 0.0)) == 0  # a prepared transaction


def test_what_is_told_of_a_build() -> None:
    w = watched()
    watching._report(w, QUIET)
    watching._report(w, QUIET)
    assert w.work.hold.actions == ["phase"]
    watching._report(w, holder(5, 9.0))
    assert w.work.hold.actions == ["phase", "phase"]
    watching._report(w, replace(holder(5, 9.0), index_oid=7))
    assert w.work.hold.indexes == [(7, False)]
    for kind, seen in (("reindex", [(7, False)]), ("drop", []), ("clean", [])):
        other = watched(kind)
        watching._report(other, replace(QUIET, index_oid=7))
        assert other.work.hold.indexes == seen


@pytest.mark.parametrize(("kind", "snapshot", "told"), [("create", True, 5), ("reindex", True, 5), ("drop", True, 0),
                                                        ("create", False, 0)])  # fmt: skip
def test_rivals_are_told_once_each_and_five_at_most(kind: str, snapshot: bool, told: int) -> None:
    w = watched(kind)
    many = replace(QUIET, waiters=tuple(Waiter(pid, "x", 0.0, "who", snapshot=snapshot) for pid in range(1, 8)))
    for _ in range(2):
        watching._report(w, many)
    assert w.work.hold.actions.count("rival") == told
    assert len(w.rivals) == 7


def test_the_copy_of_a_rebuild_is_not_the_index() -> None:
    made = work(change(State.RUNNING, plan=REBUILD))
    for oid in (7, 8, 8, 7):
        made.index_seen(oid)
    assert (made.copy_oid, made.hold.actions) == (8, ["copy"])


@pytest.mark.parametrize(("kind", "parent", "pressed"), [("create", None, True), ("reindex", None, True), ("drop", None, False),
                                                         ("create", "x", False)])  # fmt: skip
async def test_a_statement_is_watched_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, kind: str, parent: Any, pressed: bool
) -> None:
    did: list[str] = []

    class Guard:
        phase, verdict = "", None

        def __init__(self, *_: Any) -> None: ...

        def start(self) -> None:
            did.append("start")

        async def close(self) -> None:
            did.append("close")

    monkeypatch.setattr(watching, "Pressure", Guard)
    ticks = 0

    async def tick(w: Any) -> bool:
        nonlocal ticks
        ticks += 1
        return ticks >= 3

    monkeypatch.setattr(watching, "_tick", tick)

    async def pause(w: Any, seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(watching, "_pause", pause)
    made = work(parent=parent)
    ended = await watching.watch(made, BACKEND, Rules(kind, None), None)
    assert (ended.answered, ended.error, ended.stop, ticks) == (False, None, None, 3)
    assert did == (["start", "close"] if pressed else [])
    assert made.hold.actions == []

    async def statement() -> None:
        raise psycopg.errors.QueryCanceled("stopped")

    ended = await watching.watch(made, BACKEND, Rules(kind, None), asyncio.create_task(statement()), STOP)
    assert (ended.answered, type(ended.error), ended.stop) == (True, psycopg.errors.QueryCanceled, STOP)
    assert made.hold.actions == ["backend.gone"]

    async def lost() -> None:
        raise psycopg.OperationalError("lost")

    ended = await watching.watch(made, BACKEND, Rules(kind, None), asyncio.create_task(lost()))
    assert (ended.answered, ended.error) == (False, None)  # then the backend was watched

    async def good() -> None:
        return None

    ended = await watching.watch(made, BACKEND, Rules(kind, None), asyncio.create_task(good()))
    assert (ended.answered, ended.error) == (True, None)


async def test_why_is_told_in_words_or_by_its_name(server: Server) -> None:
    for error, words in ((OSError("lost"), "lost"), (OSError(), "OSError")):
        server.refuses = error
        w = watched(task=None)
        await watching._signal(w, "cancel")
        assert w.work.hold.last == {"why": words}
        server.refuses = None
        w = watched()
        await server.tick(w, 0.5, error)
        await server.tick(w, 3.1, error)
        assert next(d for _, action, d in w.work.hold.told if action == "cancel.intent")["error"] == words


async def test_what_has_no_door_is_given_up_all_the_same() -> None:
    w = watched()
    w.work.door = None
    await watching._give_up(w)
    assert (w.task, w.answered) == (None, False)


async def test_a_lost_eye_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: Any, **__: Any) -> str:
        return "new"

    monkeypatch.setattr(watching, "connect", connect)
    for closed in (False, True):
        w = watched()
        w.work.observer = old = SimpleNamespace(closed=closed)
        assert await watching._eye(w) == ("new" if closed else old)


async def test_a_pause_ends_with_the_statement() -> None:
    begun = time.monotonic()
    await watching._pause(watched(task=None), 0.01)
    await watching._pause(watched(task=asyncio.create_task(asyncio.sleep(0.01))), 30)
    assert 0.02 <= time.monotonic() - begun < 10


async def test_who_was_taken_over_does_nothing_any_more(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    async def pause(w: Any, seconds: float) -> None:
        server.clock += seconds

    monkeypatch.setattr(watching, "_pause", pause)
    w = watched()
    w.work.hold.fenced = True
    server.readings = [QUIET, OSError("lost"), replace(QUIET, idle=True)]
    with pytest.raises(StaleEpochError):
        await watching._sit_out(w)
    assert (w.work.door.did, server.signals) == (["hang up"], [])
    assert server.clock == 1009.0  # once the server has been through with it for more than three seconds
    done = watched(task=Statement(done=True))
    with pytest.raises(StaleEpochError):
        await watching._sit_out(done)
    assert done.work.door.did == []
    fenced = work()
    fenced.hold.fenced = True
    with pytest.raises(StaleEpochError):
        await watching.watch(fenced, BACKEND, Rules("drop", None), None)
    assert fenced.hold.actions == []
