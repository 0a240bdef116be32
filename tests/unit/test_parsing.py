"""Texts from anywhere are parsed, or refused: a deep one must not end the process."""

from __future__ import annotations

import postgast
import pytest

from indexpilot_tui.engine.postgres.parsing import parse
from indexpilot_tui.engine.whatif import statements
from indexpilot_tui.engine.whatif.model import Statement

DEEP = {
    "operators": "select * from t where a = " + "||".join(f"${n}" for n in range(1, 250)),
    "joins": "select * from t t0 " + " ".join(f"join t t{n} on t{n}.a = t0.a" for n in range(1, 100)),
    "unions": " union all ".join(["select a from t where b = $1"] * 100),
    "subqueries": "select * from t where a in (" * 60 + "select $1::int" + ")" * 60,
    "calls": "select " + "f(" * 60 + "a" + ")" * 60 + " from t",
}
TOO_DEEP = {
    "operators": "select 1" + "+1" * 5_000,
    "more operators": "select 1" + "+1" * 90_000,
    "unions": " union all ".join(["select 1"] * 8_000),
    "subqueries": "select (" * 3_000 + "1" + ")" * 3_000,
    "joins": "select * from t " + " ".join(f"join t t{n} on true" for n in range(7_000)),
    "casts": "select 1" + "::int" * 8_000,
    "cases": "select " + "case when a then 1 else " * 2_000 + "1" + " end" * 2_000,
    "brackets": "select " + "(" * 90_000 + "1" + ")" * 90_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_what_applications_nest_is_parsed(text: str) -> None:
    parsed = statements.parse(Statement("1", text, 1))
    assert parsed.refused == ""
    assert parsed.tables == (("", "t"),)
    assert parse(parsed.sql)


@pytest.mark.parametrize("text", TOO_DEEP.values(), ids=TOO_DEEP.keys())
def test_what_would_overflow_the_stack_is_refused(text: str) -> None:
    with pytest.raises(postgast.PgQueryError):
        parse(text)
    assert statements.parse(Statement("1", text, 1)).refused


def test_long_and_flat_statements_are_parsed() -> None:
    many = ", ".join(f"${n}" for n in range(1, 20_000))
    assert statements.parse(Statement("1", f"select * from t where a in ({many})", 1)).parameters == 19_999
    either = " or ".join(f"a = ${n}" for n in range(1, 5_000))
    assert statements.parse(Statement("1", f"select * from t where {either}", 1)).parameters == 4_999


@pytest.mark.parametrize(
    ("text", "planned"),
    [
        ("prepare p (int) as select * from t where a = $1", "SELECT * FROM t WHERE a = $1"),
        ("declare c no scroll cursor with hold for select * from t", "SELECT * FROM t"),
        ("copy (select * from t) to stdout", "SELECT * FROM t"),
        ("explain (analyze, buffers) update t set a = 1", "UPDATE t SET a = 1"),
        ("explain (analyze true) declare c cursor for select * from t", "SELECT * FROM t"),
        ("create table x as select * from t", "SELECT * FROM t"),
        ("create materialized view x as select * from t", "SELECT * FROM t"),
        ("select * into x from t", "SELECT * FROM t"),
    ],
)
def test_a_statement_that_carries_a_query_is_planned_as_it(text: str, planned: str) -> None:
    parsed = statements.parse(Statement("1", text, 1))
    assert (parsed.sql, parsed.refused, parsed.tables) == (planned, "", (("", "t"),))
    assert any("planned as its query" in r for r in parsed.repaired)


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("with t as (select * from t) select * from t", ["t"]),
        ("with a as (select * from b), b as (select 1) select * from a, b", ["b"]),
        ("with recursive a as (select * from b), b as (select 1) select * from a, b", []),
        ("with recursive t as (select 1 n union all select n + 1 from t) select * from t join u on true", ["u"]),
        ("select * from (with t as (select 1) select * from t) x join t on true", ["t"]),
        ("with t as (select 1) insert into t select * from t", ["t"]),
        ("with t as (select 1) select * from s.t, t", ["s.t"]),
        ("select * from orders o join lines l using (id) for update of o skip locked", ["orders", "lines"]),
        ("with x as (delete from a returning *) update b set c = x.c from x, d", ["a", "b", "d"]),
    ],
)
def test_a_name_of_with_hides_a_table_only_where_it_is_meant(text: str, tables: list[str]) -> None:
    found = statements.parse(Statement("1", text, 1)).tables
    assert sorted(".".join(x for x in name if x) for name in found) == sorted(tables)
