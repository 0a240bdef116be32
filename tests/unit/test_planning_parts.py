"""The steps of an index on a partitioned table: what they are, what is taken in, what is refused, and that no other is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.planning_parts import judged, partitioned_steps, step_disagreement, step_plan
from indexpilot_tui.engine.model.change import Plan, Step
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import UsageError
from tests.unit.bench_of_changes import DROP
from tests.unit.desk import PLAN, Desk

DDL = "CREATE INDEX CONCURRENTLY p_w_idx ON app.p USING btree (w)"


def relation(oid: int, name: str, level: int, parent: int | None, **changed: Any) -> dict[str, Any]:
    leaf = changed.get("part_key") is None
    return {"oid": oid, "schema": "app", "name": name, "relkind": "r" if leaf else "p", "persistence": "p", "owner": "o",
            "parent": parent, "level": level, "is_leaf": leaf} | changed | {"part_key": changed.get("part_key") or []}  # fmt: skip


# as the server orders them: p -> p_c, p_low -> p_a, p_b (in another schema)
TREE = [
    relation(8, "p", 0, None, part_key=["k"]), relation(12, "p_c", 1, 8), relation(9, "p_low", 1, 8, part_key=["k"]),
    relation(10, "p_a", 2, 9), relation(11, "p_b", 2, 9, schema="far"),
]  # fmt: skip


def there(oid: int, table: dict[str, Any], key: str = "w", **changed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """An index of a partition, as the two questions tell it."""
    name = f"old_{table['name']}"
    fact = {"oid": oid, "schema": table["schema"], "name": name, "table_oid": table["oid"], "valid": True, "ready": True,
            "live": True, "is_unique": False, "has_expressions": False, "building": False, "relkind": "i",
            "parent": None} | changed  # fmt: skip
    only = "" if table["is_leaf"] else "ONLY "
    definition = f"CREATE INDEX {name} ON {only}{table['schema']}.{table['name']} USING btree ({key})"
    return fact, {"oid": oid, "table": table["oid"], "definition": definition}


async def steps_of(
    *indexes: tuple[Any, Any], rows: Any = None, ddl: str = DDL, taken: set[str] | None = None, unseen: bool = False
) -> tuple[tuple[Step, ...], dict[str, Any]]:
    answers: Any = {
        "partitions": rows or TREE, "part_indexes": [] if unseen else [fact for fact, _ in indexes],
        "table_indexes": lambda params: [row for _, row in indexes if row["table"] == params["table_oid"]],
        "names_taken": lambda params: [{"name": "p_b_w_idx"}] if params["schema"] == "far" else [],
    }  # fmt: skip
    session: Any = Desk(answers, package="indexpilot_tui.engine.changes")
    return await partitioned_steps(session, parse_index_statement(ddl), 8, {"p_a_w_idx"} if taken is None else taken)


def whole(steps: tuple[Step, ...]) -> Plan:
    return replace(PLAN, ddl=DDL, schema="app", table="p", table_oid=8, index="p_w_idx", steps=steps)


async def test_the_whole_comes_first_then_a_build_a_partition_then_the_joining_from_below() -> None:
    steps, saved = await steps_of()
    assert [(step.deed, step.schema, step.table, step.table_oid, step.index, step.to, step.index_oid) for step in steps] == [
        ("root", "app", "p", 8, "p_w_idx", None, None), ("branch", "app", "p_low", 9, "p_low_w_idx", None, None),
        ("leaf", "app", "p_c", 12, "p_c_w_idx", None, None),
        ("leaf", "app", "p_a", 10, "p_a_w_idx1", None, None),  # the name is taken
        ("leaf", "far", "p_b", 11, "p_b_w_idx1", None, None),  # and in that schema
        ("attach", "app", "p_a", 10, "p_a_w_idx1", 1, None), ("attach", "far", "p_b", 11, "p_b_w_idx1", 1, None),
        ("attach", "app", "p_c", 12, "p_c_w_idx", 0, None), ("attach", "app", "p_low", 9, "p_low_w_idx", 0, None),
    ]  # fmt: skip
    assert [step.ddl for step in steps] == [
        "CREATE INDEX p_w_idx ON ONLY app.p USING btree (w)", "CREATE INDEX p_low_w_idx ON ONLY app.p_low USING btree (w)",
        "CREATE INDEX CONCURRENTLY p_c_w_idx ON app.p_c USING btree (w)",
        "CREATE INDEX CONCURRENTLY p_a_w_idx1 ON app.p_a USING btree (w)",
        "CREATE INDEX CONCURRENTLY p_b_w_idx1 ON far.p_b USING btree (w)",
        'ALTER INDEX "app"."p_low_w_idx" ATTACH PARTITION "app"."p_a_w_idx1"',
        'ALTER INDEX "app"."p_low_w_idx" ATTACH PARTITION "far"."p_b_w_idx1"',
        'ALTER INDEX "app"."p_w_idx" ATTACH PARTITION "app"."p_c_w_idx"',
        'ALTER INDEX "app"."p_w_idx" ATTACH PARTITION "app"."p_low_w_idx"',
    ]  # fmt: skip
    assert saved == {"partitions": 3, "adopted": []}
    assert step_disagreement(whole(steps)) == ""


async def test_no_two_parts_get_one_name() -> None:
    """A partition's own name may be that of the whole, and two long names may be cut to the same."""
    rows = [TREE[0], relation(12, "p", 1, 8), *(relation(n, "x" * 60 + str(n), 1, 8) for n in (21, 22))]
    names = [step.index for step in (await steps_of(rows=rows, taken=set()))[0] if step.deed != "attach"]
    assert names == ["p_w_idx", "p_w_idx1", "x" * 57 + "_w_idx", "x" * 56 + "_w_idx1"]


async def test_an_index_that_stands_on_a_partition_is_taken_in() -> None:
    steps, saved = await steps_of(there(71, TREE[1]), there(72, TREE[4]))
    assert [(s.table, s.index, s.to, s.index_oid) for s in steps if s.deed == "attach"] == [
        ("p_a", "p_a_w_idx1", 1, None), ("p_b", "old_p_b", 1, 72), ("p_c", "old_p_c", 0, 71), ("p_low", "p_low_w_idx", 0, None),
    ]  # fmt: skip
    assert [s.table for s in steps if s.deed == "leaf"] == ["p_a"]
    assert saved == {
        "partitions": 3, "adopted": [{"oid": 71, "index": "app.old_p_c"}, {"oid": 72, "index": "far.old_p_b"}]
    }  # fmt: skip
    assert step_disagreement(whole(steps)) == ""


async def test_what_is_below_a_partition_that_is_taken_in_comes_with_it() -> None:
    deeper = [*TREE, relation(13, "p_z", 2, 9, part_key=["k"]), relation(14, "p_y", 3, 13)]
    steps, saved = await steps_of(there(71, TREE[2], relkind="I"), there(72, TREE[3], parent=71), rows=deeper)
    assert [(s.deed, s.table) for s in steps] == [("root", "p"), ("leaf", "p_c"), ("attach", "p_c"), ("attach", "p_low")]
    assert [item["oid"] for item in saved["adopted"]] == [71]
    assert saved["partitions"] == 4
    assert step_disagreement(whole(steps)) == ""


@pytest.mark.parametrize(
    ("index", "unseen"),
    [
        (there(71, TREE[1], "w DESC"), False), (there(71, TREE[1], "w DESC", valid=False), False),  # another index
        (there(71, TREE[1], parent=70), False),  # a part of another whole: it has no second parent
        (there(71, TREE[1]), True),  # made this moment: what it is, is not known
    ],
)  # fmt: skip
async def test_what_is_not_certainly_free_and_the_same_is_not_taken_in(index: Any, unseen: bool) -> None:
    steps, saved = await steps_of(index, unseen=unseen)
    assert saved["adopted"] == []
    assert [s.table for s in steps if s.deed == "leaf"] == ["p_c", "p_a", "p_b"]


async def test_of_two_that_are_the_same_one_is_taken_in() -> None:
    steps, saved = await steps_of(there(71, TREE[1]), there(73, TREE[1]))
    assert [item["oid"] for item in saved["adopted"]] == [71]
    assert [s.index_oid for s in steps if s.table == "p_c"] == [71]


@pytest.mark.parametrize("changed", [{"valid": False}, {"building": True}, {"valid": False, "building": True}])
async def test_an_index_that_is_not_whole_is_neither_taken_in_nor_built_a_second_time(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="INVALID index like the one") as caught:
        await steps_of(there(71, TREE[1], **changed))
    assert (caught.value.field, caught.value.value) == ("index", "app.old_p_c")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"relkind": "f"}, "a foreign table"), ({"persistence": "t"}, "a temporary table"), ({"owner": "x"}, "belongs to x, its table to o"),
     ({"persistence": "u"}, "")],
)  # fmt: skip
async def test_a_partition_that_can_have_no_part_refuses_the_whole(changed: dict[str, Any], message: str) -> None:
    rows = [*TREE[:3], TREE[3] | changed, TREE[4]]
    if not message:
        assert (await steps_of(rows=rows))[1]["partitions"] == 3
        return
    with pytest.raises(UsageError) as caught:
        await steps_of(rows=rows)
    assert message in caught.value.message
    assert (caught.value.field, caught.value.value) == ("table", "app.p_a")


@pytest.mark.parametrize(
    ("keys", "columns", "lacks"),
    [
        (["k"], "id, k", ""), (["k"], "id, k desc", ""), (["K y"], 'id, "K y"', ""), (["k"], "id", "k"),
        (["k", "m"], "k", "m"), (["k", "m"], "id", "k, m"), (["k"], "id, (k + 1)", "k"), ([""], "id, k", "an expression"),
        (["k"], "id) include (k", "k"),
    ],
)  # fmt: skip
async def test_a_unique_index_holds_every_column_of_the_partition_keys(keys: list[str], columns: str, lacks: str) -> None:
    """Else the same values could stand in two partitions, and no index would see it."""
    rows = [TREE[0] | {"part_key": keys}, *TREE[1:2]]
    ddl = f"create unique index u on app.p ({columns})"
    assert (await steps_of(rows=rows, ddl=ddl.replace("unique ", "")))[0][0].deed == "root"  # no rule, no demand
    if not lacks:
        assert (await steps_of(rows=rows, ddl=ddl))[0][0].deed == "root"
        return
    with pytest.raises(UsageError) as caught:
        await steps_of(rows=rows, ddl=ddl)
    assert caught.value.message.endswith(f"this one lacks {lacks}")


async def test_a_partition_that_is_partitioned_by_other_columns_demands_them_too() -> None:
    rows = [TREE[0], TREE[2] | {"part_key": ["m"]}]
    with pytest.raises(UsageError, match="lacks m") as caught:
        await steps_of(rows=rows, ddl="create unique index u on app.p (k)")
    assert caught.value.value == "app.p_low"


async def forged(position: int, **changed: Any) -> str:
    """What is said of the steps when one of them is changed."""
    steps = list((await steps_of())[0])
    steps[position] = replace(steps[position], **changed)
    return step_disagreement(whole(tuple(steps)))


ATTACH = 'ALTER INDEX "app"."{}" ATTACH PARTITION "{}"."{}"'


@pytest.mark.parametrize(
    ("position", "changed"),
    [
        (0, {"ddl": "DROP TABLE app.p"}), (0, {"table_oid": 9}),
        (0, {"deed": "leaf", "ddl": DDL}),  # the whole in one, which the server refuses
        (0, {"deed": "branch"}), (1, {"deed": "root"}), (1, {"ddl": DDL}),
        (2, {"ddl": "CREATE INDEX p_c_w_idx ON app.p_c USING btree (w)"}),  # writers would wait for it
        (2, {"deed": "branch"}), (2, {"table": "other"}), (2, {"schema": "other"}), (2, {"index": "other"}),
        (2, {"deed": "drop", "ddl": 'DROP INDEX "app"."p_w_idx"'}), (2, {"deed": "other"}),
        (5, {"to": None}), (5, {"to": 0}), (5, {"deed": "drop"}),
        (5, {"to": 3, "ddl": ATTACH.format("p_a_w_idx1", "app", "p_a_w_idx1")}),  # to a leaf
        (5, {"to": 5, "ddl": ATTACH.format("p_a_w_idx1", "app", "p_a_w_idx1")}),  # to itself
        (5, {"to": -8}),  # the same from the end
        (5, {"to": 8, "ddl": ATTACH.format("p_low_w_idx", "app", "p_a_w_idx1")}),  # to what comes later
        (5, {"to": 99}),
        (7, {"to": 1}),
        (7, {"index": "theirs", "ddl": ATTACH.format("p_w_idx", "app", "theirs")}),  # what this change does not make
        (7, {"schema": "far", "ddl": ATTACH.format("p_w_idx", "far", "p_c_w_idx")}),
    ],
)  # fmt: skip
async def test_a_step_that_does_not_follow_from_the_plan_is_told(position: int, changed: dict[str, Any]) -> None:
    assert (await forged(position, **changed)).startswith(f"step {position + 1}: planned ")


async def test_what_was_planned_and_what_is_written_are_both_told() -> None:
    told = await forged(0, ddl="DROP TABLE app.p")
    assert told == "step 1: planned CREATE INDEX p_w_idx ON ONLY app.p USING btree (w), written DROP TABLE app.p"
    told = await forged(2, deed="drop", ddl="DROP TABLE app.p")
    assert told == "step 3: planned nothing like it, written DROP TABLE app.p"


async def test_a_second_beginning_and_another_kind_have_no_steps() -> None:
    steps, _ = await steps_of()
    assert step_disagreement(whole((*steps, steps[0]))).startswith("step 10: planned nothing like it")
    assert step_disagreement(whole(steps[1:])).startswith("step 1: planned nothing like it")
    rebuild = replace(whole(steps), kind="reindex", ddl="REINDEX INDEX CONCURRENTLY app.p_w_idx")
    assert step_disagreement(rebuild).startswith("step 1: planned nothing like it")
    assert step_disagreement(PLAN) == ""  # one statement


async def test_an_attach_needs_what_a_step_before_it_makes() -> None:
    steps = list((await steps_of())[0])
    late = (*steps[:2], *steps[5:], *steps[2:5])
    assert step_disagreement(whole(late)).startswith("step 3: planned nothing like it")


TAKEN_BACK = replace(DROP, schema="app", table="p", table_oid=8, index="p_w_idx", ddl="DROP INDEX CONCURRENTLY app.p_w_idx")
ONE = Step("drop", 'DROP INDEX "app"."p_w_idx"', "app", "p", 8, "p_w_idx")


@pytest.mark.parametrize(
    ("steps", "good"),
    [
        ((ONE,), True), ((ONE, ONE), False), ((replace(ONE, deed="root"),), False), ((replace(ONE, table_oid=9),), False),
        ((replace(ONE, ddl='DROP INDEX "app"."p_w_idx" CASCADE'),), False),
        ((replace(ONE, index="x", ddl='DROP INDEX "app"."x"'),), False),
    ],
)  # fmt: skip
def test_a_way_back_is_the_one_drop_of_the_whole(steps: tuple[Step, ...], good: bool) -> None:
    assert (step_disagreement(replace(TAKEN_BACK, steps=steps)) == "") is good


async def test_the_gates_judge_a_step_as_a_plan_of_its_own_under_the_hash_that_was_approved() -> None:
    steps, _ = await steps_of()
    plan = whole(steps)
    for position, step in enumerate(steps):
        one = step_plan(plan, position)
        assert (one.schema, one.table, one.table_oid, one.index) == (step.schema, step.table, step.table_oid, step.index)
        assert one.ddl == (step.ddl if step.deed == "leaf" else plan.ddl)  # what says how much is built
        assert (one.builds, one.sha256, one.steps) == (step.deed == "leaf", plan.sha256, ())
        assert (one.kind, one.owner, one.system_identifier) == (plan.kind, plan.owner, plan.system_identifier)
    assert judged(plan) == step_plan(plan, 2)  # the first that is built
    assert judged(PLAN) is PLAN
    assert judged(replace(TAKEN_BACK, steps=(ONE,))) == replace(TAKEN_BACK, steps=(ONE,))
