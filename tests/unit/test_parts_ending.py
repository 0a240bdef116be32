"""What becomes of a change on a partitioned table, by what stands: proven, queued again, removed, or left to a person."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import group
from indexpilot_tui.engine.changes.work import Why
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import State
from tests.unit.bench_of_changes import index, work
from tests.unit.bench_of_parts import PARTED, PARTED_DROP, ROOT, STEPS, TREE, TWO, going, parted, room_of_parts
from tests.unit.desk import FACTS

NEW = {"oid": 16403, "parent": ROOT, "schema": "public", "name": "p3"}
ROOT_MADE = index(partitioned=True)


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    return room_of_parts(monkeypatch)


async def test_another_server_says_nothing_about_the_parts(room: SimpleNamespace) -> None:
    room.facts = replace(FACTS, in_recovery=True)
    made = going(room, 0, 1, 2, 3)
    await group.settle(made)
    assert (made.hold.state, "a standby now" in made.hold.last["outcome"]) == (State.NEEDS_OPERATOR, True)


async def test_a_build_that_still_shows_is_waited_for(room: SimpleNamespace) -> None:
    made = going(room, 0, 1, why=Why("gave way", True))
    room.table.take(2, valid=False, building=True)
    made.hold.rows[2] = Part("begun", 102)
    still, built = room.table.made[2], replace(room.table.made[2], valid=True, building=False)
    room.wakes = [lambda: None, lambda: room.table.made.update({2: built})]
    await group.settle(made)
    assert (room.slept, made.hold.state) == ([0.5] * 2, State.QUEUED)  # it is made after all: the rest is to follow
    room.table.made[2] = still
    made.hold.state, room.slept = State.RUNNING, []
    await group.settle(made)
    assert (sum(room.slept), made.hold.state) == (10.0, State.CLEANING)  # not for ever
    room.table.made[2] = replace(still, building=False)
    made.hold.state, room.slept = State.RUNNING, []
    await group.settle(made)
    assert (room.slept, made.hold.state) == ([], State.CLEANING)


async def test_what_is_left_on_a_partition_that_went_is_removed_before_the_proof(room: SimpleNamespace) -> None:
    made = going(room, 0, 1, 2, 3)
    room.table.made[2] = replace(room.table.made[2], valid=False)
    made.observer.answers["partitions"] = TREE[:2]
    made.why = Why("p2: gave way", True, True)
    await group.settle(made)
    assert (made.hold.state, made.hold.last.get("part")) == (State.CLEANING, 2)


async def test_what_is_given_up_is_not_proven(room: SimpleNamespace) -> None:
    made = going(room, 0, 1, 2, 3, 4, give_up=True)
    await group.settle(made)
    assert (made.hold.state, made.hold.actions) == (State.CLEANING, ["give_up"])


@pytest.mark.parametrize(
    ("why", "abort", "state"),
    [(Why("gave way", True), None, State.QUEUED), (Why("gave way", True), "bob", State.FAILED), (Why("it ended"), None, State.FAILED)],
)  # fmt: skip
async def test_a_drop_that_did_not_succeed_leaves_the_index_as_before(
    room: SimpleNamespace, why: Why, abort: str | None, state: State
) -> None:
    room.table.plan = PARTED_DROP
    room.table.made[0] = replace(ROOT_MADE, oid=7)
    made = parted(room.table, why=why, attempts=1)
    made.hold.abort = abort
    await group.settle(made)
    assert (made.hold.state, made.requeued) == (state, state is State.QUEUED)
    room.table.made.clear()
    made = parted(room.table, why=why)
    await group.settle(made)
    assert (made.hold.state, made.hold.last) == (State.VERIFYING, {"oid": None})  # it is gone after all


@pytest.mark.parametrize(
    ("why", "resumed", "attempts", "taken", "left", "state"),
    [
        (Why(), False, 1, (), False, State.FAILED), (Why(), False, 1, (0,), False, State.CLEANING),
        (Why(), False, 1, (), True, State.CLEANING), (Why(), True, 1, (), False, State.QUEUED),
        (Why(), True, 99, (0, 1), False, State.NEEDS_OPERATOR), (Why(), True, 99, (), False, State.FAILED),
        (Why("x", True), False, 99, (0, 1), True, State.CLEANING), (Why("x", held=True), False, 99, (0,), True, State.CLEANING),
        (Why("x", held=True), False, 1, (0, 1), False, State.NEEDS_OPERATOR), (Why("x", True), False, 1, (0,), False, State.QUEUED),
    ],
)  # fmt: skip
async def test_what_becomes_of_a_change_that_is_not_finished(
    room: SimpleNamespace, why: Why, resumed: bool, attempts: int, taken: Any, left: bool, state: State
) -> None:
    made = going(room, *taken, why=why, resumed=resumed, attempts=attempts)
    if left:
        room.table.take(2, valid=False)
        made.hold.rows[2] = Part("begun", 102)
    await group.settle(made)
    assert (made.hold.state, made.requeued, made.hold.indexes) == (state, state is State.QUEUED, [])
    assert made.give_up is (made.hold.actions[-1] == "give_up") is (state is State.CLEANING and not (why.retry or why.held))
    if state is State.NEEDS_OPERATOR:
        said = f"{why.sentence or 'its executor was lost'} (attempt {attempts}); 1 of 2 partitions are built"
        assert made.hold.last["outcome"].startswith(said)
        assert [command.split()[4] for command in made.hold.last["commands"]] == ["--finish", "--clean"]


@pytest.mark.parametrize(
    ("taken", "left", "abort", "state"),
    [
        ((), False, None, State.FAILED), ((), False, "bob", State.FAILED), ((0, 1), False, None, State.NEEDS_OPERATOR),
        ((0, 1), False, "bob", State.CLEANING), ((), True, None, State.NEEDS_OPERATOR), ((), True, "bob", State.CLEANING),
        ((0,), True, "bob", State.CLEANING),
    ],
)  # fmt: skip
async def test_the_end_in_the_queue_forgets_nothing_that_stands(
    room: SimpleNamespace, taken: Any, left: bool, abort: str | None, state: State
) -> None:
    made = going(room, *taken, abort=abort, state=State.QUEUED, door=None)
    if left:
        room.table.take(2, valid=False)
        made.hold.rows[2] = Part("begun", 102)
    await group.end_in_queue(made, "could not start again")
    assert (made.hold.state, made.give_up) == (state, state is State.CLEANING)
    if state is State.NEEDS_OPERATOR:
        assert f"could not start again; {1 if taken else 0} of 2 partitions are built" in made.hold.last["outcome"]
    elif state is State.CLEANING:
        assert (made.why, made.hold.last) == (Why("could not start again"), {"why": "could not start again"})


@pytest.mark.parametrize("abort", [None, "bob"])
async def test_a_drop_that_ends_in_the_queue_has_touched_nothing(room: SimpleNamespace, abort: str | None) -> None:
    room.table.plan = PARTED_DROP
    room.table.made[0] = replace(ROOT_MADE, oid=7)
    made = parted(room.table, state=State.QUEUED)
    made.hold.abort = abort
    await group.end_in_queue(made, "stopped")
    assert (made.hold.state, made.hold.last["outcome"]) == (State.FAILED, "stopped; the index stands as before")


@pytest.mark.parametrize(
    ("taken", "position"),
    [((), 1), ((0, 1), 2), ((0, 2), 1), ((0, 1, 2), 3), ((0, 1, 2, 3), 4), ((0, 1, 2, 3, 4), 0)],
)  # fmt: skip
async def test_the_gates_are_asked_about_the_next_build(room: SimpleNamespace, taken: Any, position: int) -> None:
    assert await group.judged_step(going(room, *taken)) == position
    assert await group.judged_step(work()) is None


@pytest.mark.parametrize(
    ("rows", "something"),
    [
        ({}, False), ({0: Part("cleaned", None)}, False), ({0: Part("cleaned", None), 1: Part("begun", None)}, True),
        ({0: Part("done", 1)}, True),
    ],
)  # fmt: skip
async def test_whether_something_stands_already(room: SimpleNamespace, rows: Any, something: bool) -> None:
    made = going(room)
    made.hold.rows = rows
    assert await group.stands(made) is something
    single = work()
    single.hold = made.hold
    assert not await group.stands(single)


@pytest.mark.parametrize(
    ("tree", "taken", "why"),
    [
        (TREE, (), ""), (TREE[:2], (), "p2 is no partition of the table any more"), (TREE[:2], (0,), ""),
        ([*TREE, NEW], (), "p3 is a partition that was not planned for"), ([*TREE, NEW], (0,), ""),
        ([TREE[0], TREE[1] | {"name": "p9"}, TREE[2]], (), "is not p1 any more"),
        ([TREE[0], TREE[1] | {"name": "p9"}, TREE[2]], (0,), "is not p1 any more"),
    ],
)  # fmt: skip
async def test_the_table_must_still_have_the_partitions_of_the_plan(
    room: SimpleNamespace, tree: Any, taken: Any, why: str
) -> None:
    room.table.tree = tree
    found = await group.contradiction(going(room, *taken))
    assert (why in found, bool(found)) == (True, bool(why))


async def test_what_came_below_an_index_that_is_taken_in_is_covered_by_it(room: SimpleNamespace) -> None:
    adopted = replace(STEPS[4], index="old", index_oid=5)
    room.table.plan = replace(PARTED, steps=(STEPS[0], STEPS[1], replace(STEPS[3], to=0), adopted))
    below = {"oid": 16410, "parent": TWO, "schema": "public", "name": "p2_1"}
    lower = {"oid": 16411, "parent": 16410, "schema": "public", "name": "p2_1_1"}
    room.table.tree = [*TREE, below, lower]
    made = going(room)
    room.table.made[9] = replace(ROOT_MADE, oid=5, name="old", table_oid=TWO)
    assert await group.contradiction(made) == ""
    room.table.tree.append(NEW)
    assert "p3 is a partition that was not planned for" in await group.contradiction(made)
