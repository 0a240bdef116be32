"""How the parts of a change on a partitioned table are removed: in which order, how long it is tried, and what is left alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import group_clean
from indexpilot_tui.engine.changes.work import Why
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import State
from tests.unit.bench_of_changes import index
from tests.unit.bench_of_parts import ONE, PARTED, STEPS, TREE, TWO, going, room_of_parts
from tests.unit.desk import FACTS

BRANCHED = replace(
    PARTED,
    steps=(
        STEPS[0], replace(STEPS[1], deed="branch", table="p1", table_oid=ONE, index="i_1"),
        replace(STEPS[2], table="p1_1", table_oid=TWO, index="i_1_1"), replace(STEPS[3], index="i_1_1", table="p1_1", table_oid=TWO, to=1),
        replace(STEPS[4], table="p1", table_oid=ONE, index="i_1", to=0),
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Each try to drop takes a minute and answers what `tries` has (nothing: it is dropped). `keeps`: so often the catalog
    has the index all the same; `loses`: a part that is detached at that moment."""
    said = room_of_parts(monkeypatch)
    said.tries, said.dropped, said.clock, said.takes, said.keeps, said.loses, said.renames = (
        [],
        [],
        0.0,
        60.0,
        0,
        None,
        False,
    )

    async def drop(work: Any, find: Any, *, position: int, made_by_us: bool) -> str:
        facts, wrong = await find(work, None)
        assert (facts.oid, wrong, made_by_us) == (said.table.made[position].oid, "", work.give_up)
        said.clock += said.takes
        answer = said.tries.pop(0) if said.tries else ""
        if answer:
            if said.renames:
                said.table.made[position] = replace(facts, name=f"ixp_leftover_{facts.oid}")
            return str(answer)
        if said.keeps:
            said.keeps -= 1
            return ""
        said.dropped.append(position)
        if said.loses is not None:
            said.table.made[said.loses] = replace(said.table.made[said.loses], parent=None)
        for n in [n for n, f in said.table.made.items() if n == position or f.parent == facts.oid]:
            del said.table.made[n]
        said.loses = None
        return ""

    async def fresh(work: Any) -> Any:
        return SimpleNamespace(facts=said.facts)

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)
        said.clock += seconds

    monkeypatch.setattr(group_clean, "drop_once", drop)
    monkeypatch.setattr(group_clean, "fresh_eye", fresh)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: said.clock)
    return said


def cleaning(room: SimpleNamespace, *taken: int, left: tuple[int, ...] = (), **changed: Any) -> Any:
    """A change in cleaning; the builds of `left` are INVALID."""
    made = going(room, *taken, state=State.CLEANING, **({"why": Why("gave way", True)} | changed))
    for position in left:
        room.table.take(position, valid=False)
        made.hold.rows[position] = Part("begun", 100 + position)
    return made


def forgotten(made: Any) -> list[int]:
    return [position for position, part in sorted(made.hold.rows.items()) if part.state == "cleaned"]


async def test_what_was_left_is_removed_and_what_is_built_stays(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, 1, left=(2,))
    await group_clean.clean(made)
    assert (room.dropped, forgotten(made), made.hold.state) == ([2], [2], State.QUEUED)
    assert sorted(room.table.made) == [0, 1]
    made = cleaning(room, 0, left=(1, 2))
    room.dropped.clear()
    await group_clean.clean(made)
    assert (room.dropped, forgotten(made), sorted(room.table.made)) == ([1, 2], [1, 2], [0])


@pytest.mark.parametrize(
    ("taken", "left", "order"),
    [
        ((0, 1), (2,), [2, 1, 0]),  # what is INVALID first
        ((0, 1, 2), (), [1, 2, 0]),  # then what goes without stopping anybody
        ((0, 1, 2, 3), (), [2, 0]),  # what is joined goes with the whole
        ((0, 1, 2, 3, 4), (), [0]), ((0,), (), [0]), ((), (1,), [1]), ((), (), []),
    ],
)  # fmt: skip
async def test_all_is_removed_in_an_order_that_stops_others_least(
    room: SimpleNamespace, taken: Any, left: Any, order: list[int]
) -> None:
    made = cleaning(room, *taken, left=left, give_up=True)
    await group_clean.clean(made)
    assert (room.dropped, room.table.made, room.slept) == (order, {}, [])
    makers = {position for position in (*taken, *left) if position < 3}
    assert (set(forgotten(made)), made.hold.state) == (makers, State.FAILED)
    assert (made.hold.last["outcome"], made.door) == ("gave way; all that was built is removed", None)
    made = cleaning(room, give_up=True, why=Why())
    await group_clean.clean(made)
    assert made.hold.last["outcome"] == "given up; all that was built is removed"


async def test_the_index_of_a_partition_goes_before_the_one_above_it(room: SimpleNamespace) -> None:
    room.table.plan = BRANCHED
    room.table.tree = [TREE[0], TREE[1], TREE[2] | {"parent": ONE, "name": "p1_1"}]
    made = cleaning(room, 0, 1, 2, 3, give_up=True)
    await group_clean.clean(made)
    assert (room.dropped, forgotten(made), made.hold.state) == ([1, 0], [0, 1, 2], State.FAILED)


async def test_an_index_that_nobody_saw_is_found_again_under_the_name_it_has_for_its_drop(room: SimpleNamespace) -> None:
    room.renames = True
    for give_up, state in ((False, State.QUEUED), (True, State.FAILED)):
        made = cleaning(room, give_up=give_up)
        room.table.take(1, valid=False)
        made.hold.rows[1] = Part("begun", None)
        room.tries, room.dropped[:] = ["canceling statement due to lock timeout"], []
        await group_clean.clean(made)
        assert (room.dropped, room.table.made, forgotten(made), made.hold.state) == ([1], {}, [1], state)
    made = cleaning(room, 0, 1, give_up=True)
    made.hold.rows[1] = Part("begun", None)  # it is valid, and was not written down as done
    room.tries = ["canceling statement due to lock timeout"]
    await group_clean.clean(made)
    assert (room.table.made, made.hold.state) == ({}, State.FAILED)


async def test_what_stands_yet_is_not_forgotten(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, left=(1,))
    room.keeps = 2
    await group_clean.clean(made)
    assert (room.slept, room.dropped, forgotten(made), made.hold.state) == ([0.2, 1.0], [1], [1], State.QUEUED)
    made = cleaning(room, 0, left=(1,))
    room.keeps, room.clock = 1000, 0.0
    await group_clean.clean(made)
    assert (forgotten(made), made.hold.state, "catalog has it yet" in made.hold.last["outcome"]) == (
        [], State.NEEDS_OPERATOR, True,
    )  # fmt: skip


async def test_what_was_detached_from_the_whole_meanwhile_is_not_forgotten_with_it(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, 1, 2, 3, 4, give_up=True)
    room.loses = 2
    await group_clean.clean(made)
    assert (room.dropped, forgotten(made), made.hold.state) == ([0, 2], [0, 1, 2], State.FAILED)


@pytest.mark.parametrize(
    ("parent", "give_up", "state"),
    [(100, True, State.NEEDS_OPERATOR), (None, True, State.FAILED), (100, False, State.QUEUED)],
)
async def test_what_stood_there_before_is_never_taken_along(
    room: SimpleNamespace, parent: int | None, give_up: bool, state: State
) -> None:
    adopted = replace(STEPS[4], index="old", index_oid=5)
    room.table.plan = replace(PARTED, steps=(STEPS[0], STEPS[1], STEPS[3], adopted))
    room.table.others = [index(5, name="old", table_oid=TWO, parent=parent)]
    made = cleaning(room, 0, left=(1,), give_up=give_up)
    await group_clean.clean(made)
    assert (made.hold.state, room.dropped) == (
        state, {State.NEEDS_OPERATOR: [], State.FAILED: [1, 0], State.QUEUED: [1]}[state],
    )  # fmt: skip
    if state is State.NEEDS_OPERATOR:
        assert "would go with the one of the whole: public.old:" in made.hold.last["outcome"]


async def test_another_server_or_another_index_is_left_alone(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, left=(1,))
    room.facts = replace(FACTS, in_recovery=True)
    await group_clean.clean(made)
    assert ("a standby now" in made.hold.last["outcome"], made.hold.state) == (True, State.NEEDS_OPERATOR)
    room.facts = FACTS
    made = cleaning(room, 0, left=(1,))
    room.table.tree[2] = TREE[2] | {"name": "p9"}
    await group_clean.clean(made)
    assert ("is not p2 any more" in made.hold.last["outcome"], made.hold.state) == (True, State.NEEDS_OPERATOR)
    assert (room.dropped, room.clock) == ([], 0.0)


@pytest.mark.parametrize(("unique", "ready", "third"), [(True, True, 1.0), (True, False, 2.0), (False, True, 2.0)])
async def test_a_part_that_rejects_rows_is_not_left_alone_for_long(
    room: SimpleNamespace, unique: bool, ready: bool, third: float
) -> None:
    made = cleaning(room, 0, left=(1,))
    room.table.made[1] = replace(room.table.made[1], unique=unique, ready=ready)
    room.tries = ["busy"] * 3
    await group_clean.clean(made)
    assert (room.slept, room.dropped) == ([0.2, 1.0, third], [1])


async def test_a_finished_part_harms_nobody_while_it_waits(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, 1, give_up=True)
    room.table.made[1] = replace(room.table.made[1], unique=True)
    room.tries = ["busy"] * 3 + ["", "busy"]
    await group_clean.clean(made)
    assert (room.slept, room.dropped) == ([0.2, 1.0, 2.0, 0.2], [1, 0])  # counted anew for the next one


async def test_after_a_quarter_of_an_hour_without_progress_a_person_is_asked(room: SimpleNamespace) -> None:
    made = cleaning(room, 0, 1, 2, give_up=True)
    room.takes = 880.0
    await group_clean.clean(made)
    assert made.hold.state is State.FAILED  # each one that goes gives the next one its time
    made = cleaning(room, 0, left=(1,))
    room.tries, room.takes, room.clock = ["busy"] * 2, 899.8, 0.0
    await group_clean.clean(made)
    assert (made.hold.state, room.clock) == (State.NEEDS_OPERATOR, 2 * 899.8 + 0.2 + 1.0)  # at 900 s it is tried once more
    assert made.hold.last["outcome"].startswith("public.i_1 could not be removed in 15 min (busy)")
    assert made.hold.last["commands"] == ["DROP INDEX public.i_1;"]
