"""A change on a partitioned table, step by step: which step is next, what stops it, and what becomes of it then."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import group
from indexpilot_tui.engine.changes.guard import Stop
from indexpilot_tui.engine.changes.watch import Ended
from indexpilot_tui.engine.changes.work import Why
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.errors import ConnectError, RefusedError
from tests.unit.bench_of_changes import BACKEND
from tests.unit.bench_of_parts import TWO, ended, going, room_of_parts

WAIT, BLOCK = (Verdict("g", s, "", "", "", "e") for s in (Status.WAIT, Status.BLOCK))
YIELD = Stop("yield", "1 s", "1 s", "gave way", True)
LEASE = Stop("lease", "2", "2", "no journal", False)
ABORT = Stop("abort", "", "", "stopped on request of bob", False)
DUPLICATES, BUSY = psycopg.errors.UniqueViolation("twice"), psycopg.errors.LockNotAvailable("busy")


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    return room_of_parts(monkeypatch)


async def test_all_steps_are_taken_in_their_order(room: SimpleNamespace) -> None:
    made = going(room)
    await group.follow(made)
    assert (room.door.did, made.hold.state, made.hold.last["oid"]) == ([0, 1, 2, 3, 4], State.VERIFYING, 100)
    assert made.hold.rows == {
        0: Part("done", 100), 1: Part("done", 101), 2: Part("done", 102), 3: Part("done", None), 4: Part("done", None),
    }  # fmt: skip
    assert made.hold.indexes == [(100, False)]  # the index of the change is that of the whole
    assert [kind for _, kind, _, _ in room.watched] == ["step", "create", "create", "step", "step"]
    assert [window for _, _, window, _ in room.watched] == [False, True, True, False, False]
    told = [detail for _, action, detail in made.hold.told if action == "part.outcome"]
    assert [t["notices"] for t in told] == [["a notice"], [], [], [], []]
    assert ("ddl.outcome", {"ok": True, "steps_left": 0, "why": ""}) in [row[1:] for row in made.hold.told]


async def test_it_goes_on_where_it_was(room: SimpleNamespace) -> None:
    made = going(room, 0, 1, 3)
    await group.follow(made)
    assert (room.door.did, made.hold.state, made.hold.indexes) == ([2, 4], State.VERIFYING, [])


async def test_a_root_that_is_gone_at_once_is_not_taken_for_made(room: SimpleNamespace) -> None:
    room.answers[0] = [(ended(), "nothing")]
    made = going(room)
    assert await group._take(made, 0) == ""
    assert (made.hold.rows, made.hold.indexes) == ({0: Part("done", None)}, [])


@pytest.mark.parametrize("state", [State.CANCELLING, State.UNKNOWN])
async def test_nothing_more_is_sent_once_it_is_being_stopped(room: SimpleNamespace, state: State) -> None:
    made = going(room, 0, state=state, why=Why("gave way", True))
    await group.follow(made)
    assert (made.hold.state, made.requeued, room.watched) == (State.QUEUED, True, [])


async def test_a_lock_that_is_not_free_is_tried_for_again(room: SimpleNamespace) -> None:
    room.answers[4] = [(ended(BUSY), "nothing")] * 9
    made = going(room, 0, 1, 2, 3)
    await group.follow(made)
    assert (room.door.did, made.hold.state) == ([4] * 10, State.VERIFYING)
    assert room.slept == [1.0] * 9  # whoever waits behind us gets through in between


async def test_a_lock_that_stays_taken_sends_it_back_to_the_queue(room: SimpleNamespace) -> None:
    room.answers[4] = [(ended(BUSY), "nothing")] * 10
    made = going(room, 0, 1, 2, 3)
    await group.follow(made)
    assert (made.hold.state, made.hold.last) == (
        State.QUEUED, {"why": "the lock on p2 was not free for 10 tries of a second", "made": 2, "of": 2}
    )  # fmt: skip
    outcome = {"ok": False, "steps_left": 1, "why": made.why.sentence}
    assert ("ddl.outcome", outcome) in [row[1:] for row in made.hold.told]


async def test_a_step_that_was_stopped_is_not_tried_again_for_its_lock(room: SimpleNamespace) -> None:
    room.answers[4] = [(ended(BUSY, LEASE), "nothing")]
    made = going(room, 0, 1, 2, 3)
    await group.follow(made)
    assert (room.door.did, made.hold.state) == ([4], State.NEEDS_OPERATOR)
    assert made.hold.last["outcome"].startswith("p2: no journal (attempt 1); 2 of 2 partitions are built")


@pytest.mark.parametrize(
    ("position", "refused", "why", "retry"),
    [
        (2, [WAIT], "before p2: g wait: e", True), (2, [WAIT, BLOCK], "before p2: g wait: e; g block: e", False),
        (3, [BLOCK], "before joining p1: g block: e", False),
    ],
)  # fmt: skip
async def test_a_gate_that_refuses_a_step_ends_nothing_that_is_built(
    room: SimpleNamespace, position: int, refused: Any, why: str, retry: bool
) -> None:
    for attempts, again in ((1, retry), (99, False)):
        room.gates = {position: refused}
        made = going(room, 0, 1, *([2] if position == 3 else []), attempts=attempts)
        await group.follow(made)
        assert (made.why, made.hold.gates, room.door.did) == (Why(why, retry, held=True), [refused], [])
        assert made.hold.state is (State.QUEUED if again else State.NEEDS_OPERATOR)
        assert made.requeued is again
        built = f"{why} (attempt {attempts}); {2 if position == 3 else 1} of 2 partitions are built, the index of the whole"
        assert again or made.hold.last["outcome"].startswith(built)


async def test_a_gate_that_refuses_the_first_step_leaves_nothing(room: SimpleNamespace) -> None:
    room.gates = {0: [BLOCK]}
    made = going(room)
    await group.follow(made)
    assert (made.hold.state, made.hold.last["outcome"]) == (
        State.FAILED, "before orders: g block: e; nothing is left of it",
    )  # fmt: skip


async def test_a_request_to_stop_is_heard_between_two_steps(room: SimpleNamespace) -> None:
    for taken, state in (((0, 1), State.CLEANING), ((), State.FAILED)):
        made = going(room, *taken, abort="bob")
        await group.follow(made)
        assert (made.why, room.door.did, made.give_up) == (Why("stopped on request of bob"), [], bool(taken))
        assert (made.hold.state, made.requeued) == (state, False)


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_request_to_stop_counts_for_more_than_another_try(room: SimpleNamespace, resumed: bool) -> None:
    room.answers[2] = [(ended(BUSY, YIELD), "left")]
    made = going(room, 0, 1, resumed=resumed)

    async def told(action: str, detail: Any) -> None:
        made.hold.abort = "bob"  # the word comes while the build is being stopped

    made.hold.note = told
    await group.follow(made)
    assert (made.hold.state, made.hold.actions, made.give_up) == (State.CLEANING, ["give_up"], True)


async def test_a_partition_that_another_change_of_ours_works_on_is_waited_for(room: SimpleNamespace) -> None:
    made = going(room, 0, 1)
    room.door.refuses = RefusedError("another session holds the lock for changes of p2")
    await group.follow(made)
    assert (made.hold.state, made.why) == (State.QUEUED, Why(room.door.refuses.message, True))


async def test_a_session_that_was_lost_between_two_steps_costs_nothing(room: SimpleNamespace) -> None:
    made = going(room, 0, 1)
    room.door.refuses = ConnectError("gone")
    with pytest.raises(ConnectError):
        await group.follow(made)  # ours is alive: it is the journal that is away
    made = going(room, 0, 1)

    async def lost(clearance: Any, position: int) -> Any:
        room.door.session.closed = True
        raise ConnectError("gone")

    room.door.start_step = lost
    await group.follow(made)
    assert (made.hold.state, made.why) == (State.QUEUED, Why("before p2: the executor's session was lost", True))
    for known, state in (("", State.QUEUED), ("duplicates", State.CLEANING)):  # the same, found out before the step
        made = going(room, 0, 1, why=Why(known))
        room.door.session.closed = True
        await group.follow(made)
        why = Why(known) if known else Why("the executor's session was lost", True)
        assert (made.hold.state, made.why, room.door.did) == (state, why, [])


async def test_an_answer_that_was_lost_leaves_it_to_the_catalog(room: SimpleNamespace) -> None:
    room.answers[2] = [(ended(answered=False), "done")]
    made = going(room, 0, 1)
    await group.follow(made)
    assert made.hold.told[0] == (State.UNKNOWN, "lost", {"why": "the connection broke before the answer", "part": 2})
    assert room.door.did == [2]
    assert made.hold.rows[2] == Part("begun", None)  # nobody knows that it is done


@pytest.mark.parametrize(
    ("how", "then", "state", "why"),
    [
        (ended(DUPLICATES), "left", State.CLEANING, Why("p2: the server answered 23505: twice (the table has duplicates)")),
        (ended(DUPLICATES), "nothing", State.CLEANING, Why("p2: the server answered 23505: twice (the table has duplicates)")),
        (ended(BUSY, YIELD), "left", State.CLEANING, Why("p2: gave way", True, True)),
        (ended(BUSY, YIELD), "nothing", State.QUEUED, Why("p2: gave way", True, True)),
        (ended(BUSY, LEASE), "left", State.CLEANING, Why("p2: no journal", False, True)),
        (ended(BUSY, LEASE), "nothing", State.NEEDS_OPERATOR, Why("p2: no journal", False, True)),
        (ended(BUSY, ABORT), "nothing", State.CLEANING, Why("p2: stopped on request of bob", False, False)),
        (ended(None, YIELD), "done", State.QUEUED, Why("p2: gave way", True, True)),  # the cancel came too late
    ],
)  # fmt: skip
async def test_what_becomes_of_it_when_a_build_does_not_succeed(
    room: SimpleNamespace, how: Ended, then: str, state: State, why: Why
) -> None:
    room.answers[2] = [(how, then)]
    made = going(room, 0, 1)
    await group.follow(made)
    assert (made.hold.state, made.why, room.door.did) == (state, why, [2])
    assert made.give_up is (made.hold.actions[-1] == "give_up") is (state is State.CLEANING and not why.held)
    if made.hold.actions[-1] == "leftover":
        left = made.hold.last
        assert (left["part"], left["oid"], left["made"], left["of"], left["why"]) == (2, 102, 1, 2, why.sentence)


async def test_a_step_that_contradicts_the_catalog_is_not_taken(room: SimpleNamespace) -> None:
    made = going(room, 0, 1)
    room.table.made[2] = replace(room.table.made[1], oid=9, name="i_2", table_oid=TWO)
    await group.follow(made)
    assert (room.door.did, made.hold.state, made.requeued) == ([], State.NEEDS_OPERATOR, False)
    assert "the name i_2 was taken in the meantime" in made.hold.last["outcome"]
    assert made.hold.last["commands"] == ["\\d+ public.orders"]


@pytest.mark.parametrize(
    ("changed", "watched", "state"),
    [
        ({"backend": None}, False, State.QUEUED), ({"alive": False}, False, State.QUEUED), ({}, True, State.QUEUED),
        ({"state": State.CANCELLING}, True, State.QUEUED),
    ],
)  # fmt: skip
async def test_the_backend_of_a_predecessor_is_watched_to_its_end(
    room: SimpleNamespace, changed: dict[str, Any], watched: bool, state: State
) -> None:
    room.alive = changed.get("alive", True)
    room.answers[None] = [(ended(answered=False), "nothing")]
    why = Why("its executor was lost", True)
    found = {"door": None, "backend": BACKEND, "resumed": True, "why": why} | changed
    made = going(room, 0, 1, **{name: value for name, value in found.items() if name != "alive"})
    await group.follow(made)
    assert (made.hold.state, made.why, "ddl.outcome" in made.hold.actions) == (state, why, False)
    already = Stop("resumed", "", "", why.sentence, False) if "state" in changed else None
    assert room.watched == ([(None, "create", True, already)] if watched else [])  # the cancel is sent again
