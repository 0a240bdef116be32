"""Whether the text of a change does what its plan says, and whether the index in the catalog is the one that was planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.agreement import disagreement, must_agree
from indexpilot_tui.engine.changes.definition import differences, identical
from indexpilot_tui.engine.model.change import Plan, State, Step
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import RefusedError
from tests.unit.bench_of_changes import DROP
from tests.unit.desk import PLAN, change


def written(**changed: Any) -> Plan:
    """A plan whose text is written as this program writes it."""
    from indexpilot_tui.engine.postgres.ddl import render

    plan = replace(PLAN, **changed)
    statement = parse_index_statement(plan.ddl)
    return replace(plan, ddl=render(statement, schema=plan.schema, table=plan.table, index=plan.index, concurrently=True))


GOOD = written()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""), ({"kind": "drop"}, "kind"), ({"schema": "other"}, "schema"), ({"index": "x"}, "index"),
        ({"table": "other"}, "table"), ({"unique": True}, "unique"), ({"method": "hash"}, "method"),
        ({"ddl": f"{GOOD.ddl} "}, "not written as"), ({"ddl": "select 1"}, "CREATE"),
        ({"ddl": GOOD.ddl.replace("CONCURRENTLY ", "")}, "concurrently"),
    ],
)  # fmt: skip
def test_the_text_does_what_the_plan_says(changed: dict[str, Any], why: str) -> None:
    plan = replace(GOOD, **changed)
    assert why in disagreement(plan)
    assert bool(disagreement(plan)) is bool(why)
    if why:
        with pytest.raises(RefusedError, match="is not what the plan says"):
            must_agree(plan)
    else:
        must_agree(plan)


def test_a_drop_has_no_table_in_its_text() -> None:
    plan = written(kind="drop", ddl='drop index public."orders_customer_idx"', index_oid=7, table="whatever", unique=True)
    assert disagreement(plan) == ""
    step = Step("leaf", "x", "public", "orders", 1, "i")
    assert disagreement(replace(GOOD, steps=(step,))) != ""  # steps that do not belong to it
    assert disagreement(replace(GOOD, steps=(step,), unique=True)).startswith("unique")  # what differs first is told


@pytest.mark.parametrize(
    ("plan", "parent", "oid", "why"),
    [
        (written(kind="drop", ddl='drop index public."orders_customer_idx"', index_oid=7), GOOD, 7, ""),
        (written(kind="drop", ddl='drop index public."orders_customer_idx"', index_oid=7), GOOD, 8, "another index"),
        (GOOD, GOOD, 7, "a create takes no create back"),
        (GOOD, replace(DROP, saved={"definition": GOOD.ddl}), None, ""),
        (GOOD, replace(DROP, saved={"definition": GOOD.ddl.replace("customer_id", "x")}), None, "column 1"),
    ],
)
def test_a_way_back_is_the_opposite(plan: Plan, parent: Plan, oid: int | None, why: str) -> None:
    found = disagreement(plan, change(State.DONE, plan=parent, index_oid=oid))
    assert why in found
    assert bool(found) is bool(why)


BASE = "create index i on public.t using btree (a)"


@pytest.mark.parametrize(
    ("planned", "found", "different"),
    [
        (BASE, BASE, ""),
        (BASE, BASE.replace("btree", "hash"), "method"),
        (BASE, BASE.replace("index i", "unique index i"), "unique"),
        (BASE, BASE.replace("(a)", "(a, b)"), "columns"),
        (BASE, BASE.replace("(a)", "(b)"), "column 1: planned a, found b"),
        (BASE, BASE.replace("(a)", "((lower(a)))"), "found an expression"),
        (BASE.replace("(a)", "((lower(a)))"), BASE.replace("(a)", "((upper(a)))"), ""),  # of expressions the columns
        (BASE.replace("(a)", "((lower(a)))"), BASE.replace("(a)", "((lower(b)))"), "expression on ['a']"),
        (f"{BASE} include (b)", BASE, "INCLUDE"),
        (f"{BASE} where b > 1", BASE, "predicate"),
        (f"{BASE} where b > 1", f"{BASE} where c > 1", "predicate on"),
        (f"{BASE} where b > 1", f"{BASE} where (b > (1)::bigint)", ""),
        (f"{BASE} where true", BASE, "predicate"),
        (f"{BASE} nulls not distinct", BASE, "nulls not distinct"),
        (BASE, BASE.replace("(a)", "(a desc)"), "another order"),
        (BASE.replace("(a)", "(a desc)"), BASE.replace("(a)", "(a desc nulls first)"), ""),  # the default, spelled out
        (BASE, BASE.replace("(a)", "(a asc nulls last)"), ""),
        (BASE, BASE.replace("(a)", "(a nulls first)"), "another order"),
        (BASE.replace("(a)", "(a desc)"), BASE.replace("(a)", "(a desc nulls last)"), "another order"),
        (BASE, BASE.replace("(a)", "(a text_pattern_ops)"), "operator class planned default, found text_pattern_ops"),
        (BASE.replace("(a)", "(a text_ops)"), BASE, ""),  # the server does not show a default
        (BASE.replace("(a)", "(a text_ops)"), BASE.replace("(a)", "(a pg_catalog.text_ops)"), ""),
        (BASE, BASE.replace("(a)", '(a collate "C")'), "collation"),
    ],
)
def test_what_tells_one_index_from_another(planned: str, found: str, different: str) -> None:
    said = "; ".join(differences(planned, found))
    assert different in said
    assert bool(said) is bool(different)


@pytest.mark.parametrize(
    ("found", "same"),
    [(BASE, True), (BASE.replace("btree", "hash"), False), (BASE.replace("(a)", "(b)"), False), (f"{BASE} where a > 1", False),
     (f"{BASE} nulls not distinct", False), (f"{BASE} include (b)", False)],
)  # fmt: skip
def test_a_second_one_is_waste(found: str, same: bool) -> None:
    assert identical(parse_index_statement(BASE), found) is same
