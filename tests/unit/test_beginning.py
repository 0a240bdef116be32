"""From approved to running: what lets a change begin, what sends it back to the queue and what ends it; no server is needed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import asking, begin, group
from indexpilot_tui.engine.changes.duplicates import Duplicates
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.journal.journal import JournalRefusedError, StaleEpochError
from indexpilot_tui.engine.model.change import State, Step
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.errors import NotInstalledError, PrivilegeError, ServerError
from tests.unit.bench_of_changes import BACKEND, DROP, REBUILD, Noted, index, work
from tests.unit.desk import FACTS, PLAN, change

PASS, WAIT, BLOCK, UNKNOWN = (
    Verdict("g", s, "", "", "", "e") for s in (Status.PASS, Status.WAIT, Status.BLOCK, Status.UNKNOWN)
)
PARTED = replace(PLAN, steps=(Step("root", "x", "public", "orders", 1, "i"),))


class Books(Noted):
    """With what a begin needs of the journal."""

    claims: list[Any]
    refuses: BaseException | None = None

    async def record_gates(self, change_id: int, verdicts: Any) -> None:
        return None

    async def set_backend(self, *_: Any) -> None:
        return None

    async def claim(self, change_id: int, **terms: Any) -> Any:
        if self.refuses is not None:
            raise self.refuses
        return SimpleNamespace(epoch=9)

    def start_beat(self) -> None:
        self.told.append((None, "beat", {}))


class Door:
    """The executor's session."""

    def __init__(self) -> None:
        self.backend = BACKEND
        self.did: list[str] = []

    async def begin_steps(self, *_: Any) -> None:
        self.did.append("steps")

    async def start_change(self, clearance: Any, parent: Any, *, repair: bool, before: Any) -> str:
        self.did.append("change")
        return "task"

    async def count_duplicates(self, place: Any, query: Any, seconds: float) -> tuple[int, int]:
        return (0, 0)

    async def close(self) -> None:
        self.did.append("close")


def beginning(of: Any = None, *, state: State = State.APPROVED, refuses: Any = None, **changed: Any) -> Any:
    made = work(of, **changed)
    made.hold = Books(state)
    made.hold.turn, made.hold.lease_s, made.hold.refuses = asyncio.Lock(), 5.0, refuses
    return made


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the gates answer, one evaluation after the other, and what the catalog has."""
    said = SimpleNamespace(gates=[[PASS]], clock=0.0, slept=[], stands=False, door=Door(), table=("public", "orders", "shop"),
                           named=None, by_oid=index(), refusal="", clearance=None, ends=[], ways=[],
                           first=None, asked=0)  # fmt: skip

    async def evaluate(ctx: Any) -> Any:
        found = said.gates.pop(0) if len(said.gates) > 1 else said.gates[0]
        if isinstance(found, BaseException):
            raise found
        return found

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)
        said.clock += seconds

    def giving(name: str) -> Any:
        async def give(*_: Any, **__: Any) -> Any:
            return getattr(said, name)

        return give

    async def clear(ctx: Any, claim: Any) -> Any:
        said.asked += 1
        if said.first is not None and said.asked == 1:
            return said.first
        return said.clearance if said.clearance is not None else object.__new__(Clearance)

    async def ending(work: Any, sentence: str) -> None:
        said.ends.append(sentence)
        await work.hold.advance(State.FAILED, "failed", {"outcome": sentence})

    async def several(work: Any, sentence: str) -> None:
        said.ways.append("several")
        await ending(work, sentence)

    async def by_oid(eye: Any, oid: int) -> Any:
        assert oid == 7
        return said.by_oid

    async def context(self: Work, *, claimed: bool, position: Any = None) -> Any:
        return SimpleNamespace(claimed=claimed)

    async def eye(self: Work) -> Any:
        return SimpleNamespace(facts=FACTS)

    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(begin, "evaluate", evaluate)
    monkeypatch.setattr(asking, "clear", clear)
    monkeypatch.setattr(begin, "end_before_the_deed", ending)
    monkeypatch.setattr(begin, "save_stats", nothing)
    monkeypatch.setattr(begin, "table_now", giving("table"))
    monkeypatch.setattr(begin, "index_by_name", giving("named"))
    monkeypatch.setattr(begin, "index_by_oid", by_oid)
    monkeypatch.setattr(begin, "drop_refusal", giving("refusal"))
    monkeypatch.setattr(begin, "reindex_refusal", giving("refusal"))
    monkeypatch.setattr(begin, "standing", giving("table"))
    monkeypatch.setattr(begin.Door, "open", giving("door"))
    monkeypatch.setattr(group, "judged_step", nothing)
    monkeypatch.setattr(group, "stands", giving("stands"))
    monkeypatch.setattr(group, "contradiction", giving("refusal"))
    monkeypatch.setattr(group, "end_in_queue", several)
    monkeypatch.setattr(Work, "gate_context", context)
    monkeypatch.setattr(Work, "eye", eye)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: said.clock)
    return said


async def test_a_change_that_all_gates_let_through_is_claimed() -> None:
    made = beginning(change(State.APPROVED, plan=DROP), began=True, foreign=True)
    await begin.queue_and_claim(made)
    assert (made.leave, made.attempts, made.hold.epoch, made.hold.state) == (False, 1, 9, State.STARTING)
    assert (made.index_oid, made.began, made.foreign, made.timeline) == (7, False, False, 1)
    assert made.hold.actions == ["beat"]


@pytest.mark.parametrize("refused", [[[WAIT]], [[PASS, BLOCK]], [ServerError("away")]])
async def test_the_first_refusal_leaves_it_as_it_was(room: SimpleNamespace, refused: Any) -> None:
    room.gates = refused
    made = beginning()
    await begin.queue_and_claim(made)
    assert (made.leave, made.hold.actions, made.hold.state) == (True, ["apply.refused"], State.APPROVED)


@pytest.mark.parametrize(
    ("requeued", "code", "leave", "state"),
    [
        (False, "busy", True, State.APPROVED), (True, "busy", False, State.QUEUED), (True, "rate_limit", False, State.QUEUED),
        (True, "approval_expired", True, State.FAILED), (False, "approval_expired", True, State.APPROVED),
    ],
)  # fmt: skip
async def test_a_claim_that_is_refused(requeued: bool, code: str, leave: bool, state: State) -> None:
    made = beginning(state=State.QUEUED if requeued else State.APPROVED, requeued=requeued, attempted=False,
                     refuses=JournalRefusedError("no", code=code))  # fmt: skip
    await begin.queue_and_claim(made)
    assert (made.leave, made.hold.state, made.attempts) == (leave, state, 0)
    assert ("apply.refused" in made.hold.actions) is leave


@pytest.mark.parametrize("error", [ServerError("x"), PrivilegeError("x"), NotInstalledError("x")])
async def test_a_control_schema_that_is_away_is_waited_for_once_something_was_begun(error: Any) -> None:
    made = beginning(refuses=error)
    await begin.queue_and_claim(made)
    assert (made.leave, made.hold.actions) == (True, ["apply.refused"])
    with pytest.raises(type(error)):
        await begin.queue_and_claim(beginning(state=State.QUEUED, requeued=True, refuses=error))


def queued(plan: Any = PLAN, **changed: Any) -> Any:
    limits = {"observer": {"waiting_phase_seconds": 60, "requeue_delay_seconds": 10}}
    return beginning(change(State.QUEUED, plan=plan), state=State.QUEUED, requeued=True, guards=limits,
                     **({"attempted": True, "why": Why("it ended", True)} | changed))  # fmt: skip


async def test_in_the_queue_it_waits_for_its_gates_and_no_longer(room: SimpleNamespace) -> None:
    room.gates = [[WAIT], [WAIT], [PASS]]
    made = queued()
    await begin.queue_and_claim(made)
    assert (room.slept, made.hold.state) == ([10.0] * 3, State.STARTING)
    room.gates, room.clock = [[WAIT]], 0.0
    made = queued()
    await begin.queue_and_claim(made)
    assert (room.clock, made.hold.state) == (70.0, State.FAILED)  # at 60 s it is asked once more
    assert room.ends == ["it ended; could not start again: g wait: e"]
    room.gates, room.clock = [[WAIT, BLOCK]], 0.0
    made = queued(attempted=False)
    await begin.queue_and_claim(made)
    assert (room.clock, made.hold.state) == (0.0, State.FAILED)  # a block does not pass by itself
    assert room.ways == []
    await begin.queue_and_claim(queued(PARTED))
    assert room.ways == ["several"]  # what it made is removed before it ends
    room.gates, room.stands, room.clock = [[WAIT]] * 20 + [[PASS]], True, 0.0
    made = queued()
    await begin.queue_and_claim(made)
    assert (room.clock, made.hold.state) == (210.0, State.STARTING)  # a part of it stands already


async def test_in_the_queue_it_is_stopped_and_taken_over() -> None:
    made = queued()
    made.hold.abort = "bob"
    await begin.queue_and_claim(made)
    assert (made.hold.last["outcome"], made.hold.state) == ("stopped on request of bob", State.FAILED)
    made = queued()
    made.hold.fenced = True
    with pytest.raises(StaleEpochError):
        await begin.queue_and_claim(made)


@pytest.mark.parametrize(
    ("plan", "seen", "why"),
    [
        (PLAN, {}, ""), (PLAN, {"table": None}, "is not public.orders any more"),
        (PLAN, {"table": ("other", "orders", "shop")}, "any more"), (PLAN, {"table": ("public", "x", "shop")}, "any more"),
        (PLAN, {"named": index()}, "was taken in the meantime"), (PARTED, {"named": index()}, ""),
        (PARTED, {"refusal": "a partition is gone"}, "a partition is gone"), (PLAN, {"refusal": "x"}, ""),
        (DROP, {}, ""), (DROP, {"table": ("other", "orders", "shop")}, ""), (DROP, {"table": ("public", "x", "shop")}, "any more"),
        (DROP, {"named": index()}, ""), (DROP, {"by_oid": None}, "is gone or has another name"),
        (DROP, {"by_oid": index(name="x")}, "another name"), (DROP, {"by_oid": index(schema="x")}, "another name"),
        (DROP, {"refusal": "a constraint"}, "a constraint"), (REBUILD, {"refusal": "a constraint"}, "a constraint"),
        (REBUILD, {}, ""),
    ],
)  # fmt: skip
async def test_what_was_planned_must_still_be_there(
    room: SimpleNamespace, plan: Any, seen: dict[str, Any], why: str
) -> None:
    vars(room).update(seen)
    made = beginning(change(State.STARTING, plan=plan), state=State.STARTING)
    assert await begin._contradiction(made) is bool(why)
    assert (made.hold.state is State.FAILED) is bool(why)
    assert not why or why in room.ends[0]


@pytest.mark.parametrize(("parent", "valid", "unique"), [(None, True, False), ("x", True, True), (None, False, True)])
async def test_a_unique_index_is_dropped_by_a_way_back_or_when_invalid(
    monkeypatch: pytest.MonkeyPatch, parent: Any, valid: bool, unique: bool
) -> None:
    asked: list[str] = []

    async def drop(eye: Any, plan: Any, *, allow_unique: bool) -> str:
        asked.append(f"drop {allow_unique}")
        return ""

    async def rebuild(eye: Any, plan: Any) -> str:
        asked.append("reindex")
        return ""

    monkeypatch.setattr(begin, "drop_refusal", drop)
    monkeypatch.setattr(begin, "reindex_refusal", rebuild)
    of = change(State.STARTING, plan=replace(DROP, saved={"valid": valid}))
    assert not await begin._contradiction(beginning(of, parent=parent))
    assert not await begin._contradiction(beginning(change(State.STARTING, plan=REBUILD)))
    assert asked == [f"drop {unique}", "reindex"]


async def test_a_claimed_change_is_sent(room: SimpleNamespace) -> None:
    for plan, did in ((PLAN, ["change"]), (PARTED, ["steps"]), (REBUILD, ["change"])):
        room.door = Door()
        made = beginning(change(State.STARTING, plan=plan), state=State.STARTING)
        await begin.start(made)
        assert (room.door.did, made.began, made.backend) == (did, True, BACKEND)
        assert made.task == ("task" if did == ["change"] else None)
        assert bool(made.before) is (plan is REBUILD)


@pytest.mark.parametrize(
    ("seen", "abort", "state"),
    [
        ({"door": None}, None, State.QUEUED), ({"table": None}, None, State.FAILED), ({}, "bob", State.FAILED),
        ({"clearance": [PASS, WAIT]}, None, State.QUEUED), ({"clearance": [WAIT, BLOCK]}, None, State.FAILED),
    ],
)  # fmt: skip
async def test_a_claimed_change_that_may_not_begin(
    room: SimpleNamespace, seen: dict[str, Any], abort: Any, state: State
) -> None:
    vars(room).update(seen)
    made = beginning(state=State.STARTING)
    made.hold.abort = abort
    await begin.start(made)
    assert (made.hold.state, made.began, made.requeued) == (state, False, state is State.QUEUED)
    assert room.door is None or "change" not in room.door.did
    tired = beginning(state=State.STARTING, attempts=99)
    tired.hold.abort = abort
    await begin.start(tired)
    assert tired.hold.state is State.FAILED


@pytest.mark.parametrize(
    ("first", "then", "asked", "state"),
    [
        ([PASS, UNKNOWN], None, 2, State.STARTING), ([WAIT, UNKNOWN], [WAIT], 2, State.QUEUED),
        ([UNKNOWN], [UNKNOWN], 2, State.FAILED), ([UNKNOWN, BLOCK], None, 1, State.FAILED), ([WAIT], None, 1, State.QUEUED),
    ],
)  # fmt: skip
async def test_what_could_not_be_read_is_asked_once_more(
    room: SimpleNamespace, first: Any, then: Any, asked: int, state: State
) -> None:
    room.first, room.clearance = first, then
    made = beginning(state=State.STARTING)
    await begin.start(made)
    assert (room.asked, made.hold.state, "gates.again" in made.hold.actions) == (asked, state, asked == 2)
    assert made.began is (state is State.STARTING)


async def test_an_error_before_the_deed_ends_it_and_one_after_it_does_not(room: SimpleNamespace) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise ServerError("refused")

    room.door.start_change = broken
    made = beginning(state=State.STARTING)
    await begin.start(made)
    assert (made.hold.state, room.ends) == (State.FAILED, ["could not start: refused"])
    running = beginning(state=State.STARTING, task="task")
    with pytest.raises(ServerError):
        await begin.start(running)


UNIQUE = replace(PLAN, unique=True)


@pytest.mark.parametrize(
    ("plan", "counted", "required", "held"),
    [
        (PLAN, (5, 9), True, False), (UNIQUE, (0, 0), True, False), (UNIQUE, (1, 2), True, True), (UNIQUE, (1, 2), False, True),
        (UNIQUE, "a function", True, True), (UNIQUE, "a function", False, False),
        (UNIQUE, psycopg.errors.QueryCanceled("x"), True, True), (UNIQUE, psycopg.errors.DivisionByZero("x"), True, True),
    ],
)  # fmt: skip
async def test_duplicates_hold_up_a_unique_build(
    room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, plan: Any, counted: Any, required: bool, held: bool
) -> None:
    async def counting(*_: Any) -> Any:
        return counted if isinstance(counted, str) else object()

    async def count(*_: Any) -> Any:
        if isinstance(counted, BaseException):
            raise counted
        return counted

    async def guarded(*_: Any) -> str:
        return ""

    monkeypatch.setattr("indexpilot_tui.engine.changes.duplicates.counting", counting)
    monkeypatch.setattr("indexpilot_tui.engine.changes.duplicates.guarded", guarded)
    room.door.count_duplicates = count
    made = beginning(
        change(State.STARTING, plan=plan), state=State.STARTING, guards={"unique_precheck": {"required": required}}
    )
    await begin.start(made)
    assert (made.hold.state is State.FAILED) is held
    assert made.began is not held
    if held and isinstance(counted, psycopg.Error):
        late = isinstance(counted, psycopg.errors.QueryCanceled)
        assert ("took longer than" in room.ends[0]) is late
    assert Duplicates(None, None, "x").groups is None
