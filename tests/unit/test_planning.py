"""From a statement to a plan: what is refused and why, and what is saved to go back; the server's answers are written down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.planning import make_plan
from indexpilot_tui.engine.changes.planning_existing import drop_refusal, plan_drop, properties, reindex_refusal
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import UsageError
from tests.unit.bench_of_changes import DROP, REBUILD
from tests.unit.desk import FACTS, NOW, Desk

TABLE = {"oid": 8, "schema": "app", "name": "t", "relkind": "r", "persistence": "p", "is_partition": False, "owner": "o",
         "is_system": False}  # fmt: skip
INDEX = {"oid": 7, "schema": "app", "name": "i", "table_oid": 8, "valid": True, "ready": True, "live": True,
         "is_unique": False, "has_expressions": False, "building": False, "relkind": "i", "parent": None}  # fmt: skip
SAVED = {
    "is_primary": False, "is_unique": False, "is_exclusion": False, "is_replica_identity": False, "is_clustered": False,
    "valid": True, "is_partition": False, "relkind": "i", "table_name": "t", "table_schema": "app", "table_oid": 8,
    "is_system": False, "owner": "o", "method": "btree", "relfilenode": 70, "persistence": "p", "constraint_name": None,
    "foreign_key": None, "comment": "why", "tablespace": None, "options": ["fillfactor=80"], "statistics": {"1": 500},
    "scans": 12, "scans_since": NOW,
}  # fmt: skip
TEXT = {"definition": "CREATE INDEX i ON app.t USING btree (v)", "size_bytes": 8192}


def desk(**answers: Any) -> Any:
    """A server with a table app.t (v, w) and an index app.i that stands there as the answers say."""
    asked = {
        "relation": [TABLE], "columns": [{"name": "v"}, {"name": "w"}], "names_taken": [{"name": "t"}], "table_indexes": [],
        "index": INDEX, "index_saved": SAVED, "index_text": TEXT, "function": "pg_catalog",
        "search_path": {"path": "public", "login": "alice"},
    }  # fmt: skip
    return Desk(asked | answers, package="indexpilot_tui.engine.changes")


async def planned(ddl: str, **answers: Any) -> Plan:
    return await make_plan(desk(**answers), parse_index_statement(ddl))


async def refused(ddl: str, **answers: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await planned(ddl, **answers)
    assert caught.value.remedy
    return caught.value


async def test_a_plan_says_all_that_will_be_done() -> None:
    plan = await planned("create unique index on app.t using btree (v, lower(w))")
    assert plan == Plan(
        kind="create", ddl="CREATE UNIQUE INDEX CONCURRENTLY t_v_lower_idx ON app.t USING btree (v, lower(w))", schema="app",
        table="t", table_oid=8, index="t_v_lower_idx", index_oid=None, method="btree", unique=True, owner="o",
        system_identifier=FACTS.system_identifier, database=FACTS.database,
    )  # fmt: skip
    named = await planned("create index mine on app.t using hash (v)")
    assert (named.index, named.method, named.unique) == ("mine", "hash", False)
    assert named.ddl == "CREATE INDEX CONCURRENTLY mine ON app.t USING hash (v)"


async def test_a_partitioned_table_is_planned_step_by_step() -> None:
    rows = [TABLE | {"relkind": "p", "parent": None, "level": 0, "is_leaf": False, "part_key": ["v"]},
            TABLE | {"oid": 9, "name": "t1", "parent": 8, "level": 1, "is_leaf": True, "part_key": []}]  # fmt: skip
    answers = {"relation": [TABLE | {"relkind": "p"}], "partitions": rows, "part_indexes": []}
    plan = await planned("create index on app.t (v)", **answers)
    assert [step.deed for step in plan.steps] == ["root", "leaf", "attach"]
    assert plan.saved == {"partitions": 1, "adopted": []}
    assert (await planned("create index on app.t (v)")).steps == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"relkind": "r"}, ""), ({"relkind": "m"}, ""), ({"persistence": "u"}, ""), ({"relkind": "v"}, "only tables"),
        ({"relkind": "f"}, "only tables"), ({"relkind": "i"}, "only tables"), ({"is_system": True}, "system catalogs"),
        ({"persistence": "t"}, "temporary table"),
    ],
)  # fmt: skip
async def test_which_relations_get_an_index(changed: dict[str, Any], message: str) -> None:
    if not message:
        assert (await planned("create index on app.t (v)", relation=[TABLE | changed])).index == "t_v_idx"
        return
    exc = await refused("create index on app.t (v)", relation=[TABLE | changed])
    assert message in exc.message
    assert (exc.field, exc.value) == ("table", "app.t")


@pytest.mark.parametrize(
    ("ddl", "missing"),
    [
        ("create index on app.t (v) include (w)", ""), ("create index on app.t ((v + 1), w)", ""),
        ("create index on app.t (v, x)", "x"), ("create index on app.t (v) include (y)", "y"),
    ],
)  # fmt: skip
async def test_every_column_is_one_of_the_table(ddl: str, missing: str) -> None:
    if not missing:
        assert (await planned(ddl)).table == "t"
        return
    exc = await refused(ddl)
    assert (exc.field, exc.value, exc.remedy) == ("column", missing, "its columns are v, w")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (None, "this name is taken"),
        (INDEX, "this name is taken"),
        (INDEX | {"valid": False}, "an INVALID leftover"),
        (INDEX | {"valid": False, "building": True}, "is being built now"),
    ],
)
async def test_a_name_that_is_taken_is_told_with_what_has_it(there: Any, message: str) -> None:
    exc = await refused("create index i on app.t (v)", names_taken=[{"name": "i"}], index=there)
    assert message in exc.message
    assert (exc.field, exc.value) == ("index", "app.i")


@pytest.mark.parametrize(
    ("definition", "valid", "message"),
    [
        ("CREATE INDEX same ON app.t USING btree (v)", True, "the same index exists already"),
        ("CREATE INDEX same ON app.t USING btree (v)", False, "the same index exists already (INVALID"),
        ("CREATE INDEX same ON app.t USING btree (v, w)", True, ""),
    ],
)
async def test_a_second_index_of_the_same_kind_is_refused(definition: str, valid: bool, message: str) -> None:
    there = [{"oid": 7, "schema": "app", "name": "same", "valid": valid, "definition": definition}]
    if not message:
        assert (await planned("create index on app.t (v)", table_indexes=there)).index == "t_v_idx"
        return
    exc = await refused("create index on app.t (v)", table_indexes=there)
    assert exc.message.startswith(message)
    assert ("INVALID" in exc.message) is not valid
    assert exc.value == "app.same"


FOUND = TABLE | {"oid": 7, "name": "i", "relkind": "i"}


@pytest.mark.parametrize("kind", ["drop", "reindex"])
async def test_what_becomes_of_an_index_that_exists_is_saved_with_what_it_was(kind: str) -> None:
    plan = await planned(f"{kind} index app.i", relation=[FOUND])
    assert plan == Plan(
        kind=kind, ddl=f"{kind.upper()} INDEX CONCURRENTLY app.i", schema="app", table="t", table_oid=8, index="i",
        index_oid=7, method="btree", unique=False, owner="o", system_identifier=FACTS.system_identifier,
        database=FACTS.database,
        saved={
            "comment": "why", "tablespace": None, "options": ["fillfactor=80"], "statistics": {"1": 500}, "clustered": False,
            "replica_identity": False, "definition": TEXT["definition"], "valid": True, "size_bytes": 8192,
            "relfilenode": 70, "scans": 12, "scans_since": NOW.isoformat(),
        },
    )  # fmt: skip
    assert Plan.from_json(plan.to_json()) == plan
    never = await planned(f"{kind} index app.i", relation=[FOUND], index_saved=SAVED | {"scans_since": None})
    assert never.saved["scans_since"] is None
    assert properties(SAVED | {"statistics": None})["statistics"] == {}


@pytest.mark.parametrize(
    ("ddl", "relkind", "message"),
    [
        ("drop index app.i", "r", "this is not an index"), ("reindex index app.i", "v", "this is not an index"),
        ("drop index app.i", "I", "cannot be dropped concurrently"), ("reindex index app.i", "I", "has no storage"),
    ],
)  # fmt: skip
async def test_what_is_no_index_with_storage_is_neither_dropped_nor_rebuilt(ddl: str, relkind: str, message: str) -> None:
    exc = await refused(ddl, relation=[FOUND | {"relkind": relkind}])
    assert message in exc.message
    assert exc.value == "app.i"


@pytest.mark.parametrize("gone", ["index", "index_saved", "index_text"])
async def test_an_index_that_goes_while_it_is_read_is_told_as_gone(gone: str) -> None:
    for ddl in ("drop index app.i", "reindex index app.i"):
        assert "gone" in (await refused(ddl, relation=[FOUND], **{gone: None})).message
    assert "gone" in await reindex_refusal(desk(**{gone: None}), REBUILD)
    if gone != "index_text":  # what reads its text waits for locks, and is not needed again
        assert await drop_refusal(desk(**{gone: None}), DROP, allow_unique=False) == "the index with OID 7 is gone"


BOTH = [
    ({"is_system": True}, {}, "system catalogs"), ({}, {"building": True}, "building this index now"),
    ({"persistence": "t"}, {}, "temporary table"), ({"persistence": "u"}, {}, ""), ({}, {"valid": False}, ""),
]  # fmt: skip
OF_A_DROP = [
    *BOTH, ({"is_primary": True, "is_unique": True}, {}, "the primary key"), ({"constraint_name": "uq"}, {}, "the constraint uq"),
    ({"is_exclusion": True}, {}, "an exclusion constraint"), ({"foreign_key": "fk"}, {}, "the foreign key fk"),
    ({"is_replica_identity": True}, {}, "replica identity"), ({"is_partition": True}, {}, "a part of an index"),
    ({"is_unique": True}, {}, "UNIQUE"), ({"is_unique": True}, {"valid": False}, ""), ({"is_clustered": True}, {}, ""),
]  # fmt: skip
OF_A_REBUILD = [
    *BOTH, ({"is_exclusion": True, "constraint_name": "ex"}, {}, "exclusion constraint"), ({"is_primary": True}, {}, ""),
    ({"is_unique": True, "constraint_name": "uq"}, {}, ""), ({"is_partition": True}, {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("saved", "facts", "message"), OF_A_DROP)
async def test_which_indexes_must_stay(saved: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    """Asked when it is planned and, as things may have changed, again before it is done."""
    there = {"relation": [FOUND], "index_saved": SAVED | saved, "index": INDEX | facts}
    invalid = replace(DROP, saved={"valid": facts.get("valid", True)})
    again = await drop_refusal(desk(**there), invalid, allow_unique=False)
    assert message in again
    assert bool(again) is bool(message)
    if message:
        exc = await refused("drop index app.i", **there)
        assert (exc.message, exc.value) == (again, "app.i")
    else:
        assert (await planned("drop index app.i", **there)).saved["valid"] is facts.get("valid", True)


@pytest.mark.parametrize(("saved", "facts", "message"), OF_A_REBUILD)
async def test_which_indexes_cannot_be_rebuilt(saved: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    there = {"relation": [FOUND], "index_saved": SAVED | saved, "index": INDEX | facts}
    session = desk(**there)
    again = await reindex_refusal(session, REBUILD)
    assert [params for _, params in session.asked if "oid" in params] == [{"oid": 7, "schema": None, "name": None}] + [
        {"oid": 7}
    ] * 2
    assert message in again
    assert bool(again) is bool(message)
    if message:
        exc = await refused("reindex index app.i", **there)
        assert (exc.message, exc.value) == (again, "app.i")
    else:
        assert (await planned("reindex index app.i", **there)).kind == "reindex"


async def test_a_unique_index_that_we_made_ourselves_may_be_taken_back() -> None:
    session = desk(index_saved=SAVED | {"is_unique": True})
    assert await drop_refusal(session, DROP, allow_unique=True) == ""
    assert session.asked[0] == ("index", {"oid": 7, "schema": None, "name": None})
    assert (await plan_drop(session, 7, "app", "i", allow_unique=True)).unique
    with pytest.raises(UsageError, match="UNIQUE"):
        await plan_drop(session, 7, "app", "i", allow_unique=False)


@pytest.mark.parametrize(
    ("planned_valid", "now_valid", "message"),
    [(False, True, "somebody repaired it"), (False, False, ""), (True, True, ""), (True, False, "")],
)
async def test_a_leftover_that_somebody_repaired_is_not_dropped(planned_valid: bool, now_valid: bool, message: str) -> None:
    plan = replace(DROP, saved={"valid": planned_valid})
    found = await drop_refusal(desk(index=INDEX | {"valid": now_valid}), plan, allow_unique=False)
    assert message in found
    assert bool(found) is bool(message)
    assert await drop_refusal(desk(), replace(DROP, saved={}), allow_unique=False) == ""  # a plan that does not say


async def test_a_plan_without_an_index_names_none_that_could_be_touched() -> None:
    nameless = replace(DROP, index_oid=None)
    session = desk(index=lambda params: INDEX if params["oid"] else None)
    assert "OID 0 is gone" in await drop_refusal(session, nameless, allow_unique=False)
    assert "gone" in await reindex_refusal(session, replace(nameless, kind="reindex"))
