"""How far a change on a partitioned table has come, by what the catalog says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import truth
from indexpilot_tui.engine.changes.catalog import IndexFacts
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import Plan, Step
from tests.unit.bench_of_changes import DROP, index
from tests.unit.desk import PLAN, Desk

ROOM = "indexpilot_tui.engine.changes"
ROOT, LEAF = 16384, 16400
STEPS = (
    Step("root", "x", "public", "orders", ROOT, "root"),
    Step("leaf", PLAN.ddl, "public", "p1", LEAF, "leaf"),
    Step("attach", "x", "public", "p1", LEAF, "leaf", to=0),
)
PARTED = replace(PLAN, steps=STEPS)
TREE = [{"oid": ROOT, "schema": "public", "name": "orders"}, {"oid": LEAF, "schema": "public", "name": "p1"}]


def part(oid: int, name: str, table: int, **changed: Any) -> IndexFacts:
    return index(oid, **({"name": name, "table_oid": table} | changed))


async def truth_of(
    monkeypatch: pytest.MonkeyPatch, found: list[IndexFacts], parts: dict[int, Part], *, plan: Plan = PARTED,
    tree: Any = None, text: str | None = PLAN.ddl,
) -> Any:  # fmt: skip
    async def indexes_of(*_: Any) -> Any:
        return found

    async def index_text(*_: Any) -> Any:
        return None if text is None else (text, 1)

    monkeypatch.setattr(truth, "indexes_of", indexes_of)
    monkeypatch.setattr(truth, "index_text", index_text)
    desk: Any = Desk({"partitions": TREE if tree is None else tree}, package=ROOM)
    return await truth.read_truth(desk, plan, parts)


OTHER = PLAN.ddl.replace("customer_id", "x")
ROOT_MADE, LEAF_MADE = part(1, "root", ROOT), part(2, "leaf", LEAF)
DONE = {0: Part("done", 1), 1: Part("done", 2)}


@pytest.mark.parametrize(
    ("found", "parts", "todo", "made", "wrong"),
    [
        ([], {}, [0, 1, 2], [], ""),
        ([ROOT_MADE], {0: Part("done", 1)}, [1, 2], [0], ""),
        ([ROOT_MADE, LEAF_MADE], DONE, [2], [0, 1], ""),
        ([ROOT_MADE, replace(LEAF_MADE, parent=1)], DONE, [], [0, 1], ""),
        ([ROOT_MADE, replace(LEAF_MADE, parent=9)], DONE, [2], [0, 1], "a part of another index"),
        ([ROOT_MADE], {}, [0, 1, 2], [], "the name root was taken"),
        ([ROOT_MADE], {0: Part("cleaned", 1)}, [0, 1, 2], [], "the name root was taken"),
        ([], DONE, [0, 1, 2], [], ""),  # somebody dropped them
        ([part(9, "root", ROOT)], {0: Part("done", 1)}, [0, 1, 2], [], "OID 1 is gone and root is another index"),
        ([ROOT_MADE, LEAF_MADE], {0: Part("done", 1), 1: Part("begun", None)}, [2], [0, 1], ""),
    ],
)
async def test_how_far_a_partitioned_change_has_come(
    monkeypatch: pytest.MonkeyPatch, found: Any, parts: Any, todo: list[int], made: list[int], wrong: str
) -> None:
    seen = await truth_of(monkeypatch, found, parts)
    assert (seen.todo, sorted(seen.made), seen.gone, seen.leftover) == (todo, made, [], None)
    assert wrong in seen.wrong
    assert bool(seen.wrong) is bool(wrong)
    assert seen.root == (ROOT_MADE if 0 in made else None)
    assert seen.attached(1) is (1 in made and seen.made[1].parent is not None)


async def test_a_part_that_is_invalid_is_the_leftover(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(LEAF_MADE, valid=False)
    seen = await truth_of(monkeypatch, [ROOT_MADE, broken], DONE)
    assert (seen.leftover, seen.todo, sorted(seen.made)) == ((1, broken), [1, 2], [0])
    seen = await truth_of(monkeypatch, [replace(ROOT_MADE, valid=False)], {0: Part("done", 1)})
    assert (seen.leftover, sorted(seen.made)) == (None, [0])  # a root is INVALID until all its parts are attached


@pytest.mark.parametrize(
    ("facts", "text", "wrong"),
    [
        (LEAF_MADE, OTHER, "is not as planned"),
        (LEAF_MADE, None, "gone while it was looked at"),
        (replace(LEAF_MADE, valid=False), OTHER, ""),
        (replace(LEAF_MADE, table_oid=ROOT), PLAN.ddl, "is not as planned"),
    ],
)
async def test_a_part_whose_oid_nobody_saw_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, facts: Any, text: str | None, wrong: str
) -> None:
    seen = await truth_of(monkeypatch, [ROOT_MADE, facts], {0: Part("done", 1), 1: Part("begun", None)}, text=text)
    assert wrong in seen.wrong
    assert bool(seen.wrong) is bool(wrong)


async def test_partitions_that_went_and_tables_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await truth_of(monkeypatch, [ROOT_MADE, LEAF_MADE], DONE, tree=TREE[:1])  # detached
    assert (seen.gone, seen.todo, seen.wrong, sorted(seen.made)) == ([1, 2], [], "", [0, 1])
    seen = await truth_of(monkeypatch, [ROOT_MADE, LEAF_MADE], {0: Part("done", 1)}, tree=TREE[:1])
    assert (seen.gone, seen.todo, seen.wrong) == ([1, 2], [], "")
    seen = await truth_of(monkeypatch, [ROOT_MADE], DONE, tree=TREE[:1])
    assert (seen.todo, seen.wrong) == ([], "")
    seen = await truth_of(monkeypatch, [ROOT_MADE, replace(LEAF_MADE, valid=False)], DONE, tree=TREE[:1])
    assert (seen.leftover is not None, seen.todo) == (True, [])
    seen = await truth_of(monkeypatch, [ROOT_MADE, LEAF_MADE], DONE, tree=[])  # the table itself is gone
    assert "is not orders any more" in seen.wrong
    renamed = [TREE[0], TREE[1] | {"name": "p9"}]
    assert "is not p1 any more" in (await truth_of(monkeypatch, [ROOT_MADE, LEAF_MADE], DONE, tree=renamed)).wrong


async def test_an_index_that_stood_there_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    adopt = replace(STEPS[2], index_oid=5)
    plan = replace(PARTED, steps=(STEPS[0], adopt))
    mine = {0: Part("done", 1)}
    seen = await truth_of(monkeypatch, [ROOT_MADE, part(5, "old", LEAF, parent=1)], mine, plan=plan)
    assert (seen.todo, seen.wrong) == ([], "")
    seen = await truth_of(monkeypatch, [ROOT_MADE, part(5, "old", LEAF)], mine, plan=plan)
    assert (seen.todo, seen.wrong) == ([1], "")
    seen = await truth_of(monkeypatch, [ROOT_MADE], mine, plan=plan)
    assert (seen.todo, "(OID 5) is gone" in seen.wrong) == ([1], True)
    early = await truth_of(monkeypatch, [part(5, "old", LEAF)], {}, plan=plan)
    assert (early.todo, early.wrong) == ([0, 1], "")


async def test_a_drop_of_a_partitioned_index_is_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    drop = replace(DROP, steps=STEPS[:1])
    seen = await truth_of(monkeypatch, [part(6, "x", ROOT), part(7, "y", ROOT)], {}, plan=drop)
    assert (seen.todo, seen.made[0].oid) == ([0], 7)
    seen = await truth_of(monkeypatch, [part(6, "x", ROOT)], {}, plan=drop)
    assert (seen.todo, seen.made) == ([], {})


@pytest.mark.parametrize(
    ("root", "text", "counts", "why"),
    [
        (ROOT_MADE, PLAN.ddl, (2, 2), ""),
        (None, PLAN.ddl, (2, 2), "is gone"),
        (replace(ROOT_MADE, valid=False), PLAN.ddl, (2, 2), "there as it should be"),
        (replace(ROOT_MADE, ready=False), PLAN.ddl, (2, 2), "there as it should be"),
        (replace(ROOT_MADE, live=False), PLAN.ddl, (2, 2), "there as it should be"),
        (ROOT_MADE, OTHER, (2, 2), "not as planned"),
        (ROOT_MADE, None, (2, 2), "gone while it was looked at"),
        (ROOT_MADE, PLAN.ddl, (2, 1), "1 of 2 partitions"),
        (ROOT_MADE, PLAN.ddl, None, "0 of 0 partitions"),
    ],
)
async def test_proof_that_all_partitions_have_their_part(
    monkeypatch: pytest.MonkeyPatch, root: Any, text: str | None, counts: Any, why: str
) -> None:
    seen = await truth_of(monkeypatch, [root] if root else [], {0: Part("done", 1)} if root else {}, text=text)
    row = {"partitions": counts[0], "covered": counts[1], "size_bytes": 1} if counts else None
    said, found = await truth.proof(Desk({"parts_covered": row}, package=ROOM), PLAN, seen)  # type: ignore[arg-type]
    assert why in said
    assert bool(said) is bool(why)
    assert bool(found) is (not why or why.startswith("1 of"))
