"""Fingerprints of plans on real servers: what is asked, what is not, and that no code of others runs for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from indexpilot_tui.engine.changes.plan_shapes import CHANGED, UNCHANGED, compare, read_shapes
from indexpilot_tui.engine.changes.planning import make_plan
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.localpg import LocalCluster
from tests.faults.workshop import OWNER, Workshop, make_workshop


@pytest.fixture(params=[15, 18])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    found: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return found


@pytest.fixture
async def workshop(cluster: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster) as made:
        made.sql("grant usage on schema app to w_planner; grant select on all tables in schema app to w_planner")
        yield made


def rows(*texts: str, kind: str = "select") -> list[dict[str, Any]]:
    return [
        {"queryid": str(n), "query": text, "kind": kind, "total_exec_time": float(100 - n)} for n, text in enumerate(texts)
    ]


async def plan_of(workshop: Workshop) -> Plan:
    return await make_plan(workshop.monitor, parse_index_statement("create index on app.t (v)"))


async def shapes(workshop: Workshop, plan: Plan, *texts: str, kind: str = "select") -> dict[str, Any]:
    told = await read_shapes(workshop.target, workshop.settings, plan, rows(*texts, kind=kind))
    assert told["why"] == ""
    found: dict[str, Any] = told["plans"]
    return found


async def test_an_index_changes_the_plan_of_the_one_that_uses_it(workshop: Workshop) -> None:
    texts = ("select * from app.t where v = $1", "select * from t where w = $1 and id > $2", "select count(*) from app.t")
    plan = await plan_of(workshop)
    before = await shapes(workshop, plan, *texts)
    assert [before[str(n)]["parameters"] for n in range(3)] == [1, 2, 0]
    assert len(before["0"]["shapes"]) >= 2, "at values of the column's statistics, too"
    assert "Scan" not in str(before)
    workshop.sql(f"set role {OWNER}; create index on app.t (v)")
    after = await shapes(workshop, plan, *texts)
    assert [compare(before[str(n)], after[str(n)])[0] for n in range(3)] == [CHANGED, UNCHANGED, UNCHANGED]


async def test_a_skewed_value_shows_what_the_generic_plan_hides(workshop: Workshop) -> None:
    """One value in 1,000 uses the index and the common one does not; the generic plan stands for neither."""
    workshop.sql(
        f"set role {OWNER}; create table app.s (id int, state text, pad text);"
        " insert into app.s select i, case when i % 1000 = 0 then 'open' else 'done' end, repeat('x', 200)"
        " from generate_series(1, 30000) i; analyze app.s; grant select on app.s to w_planner"
    )
    plan = await make_plan(workshop.monitor, parse_index_statement("create index on app.s (state)"))
    before = await shapes(workshop, plan, "select * from app.s where state = $1")
    workshop.sql(f"set role {OWNER}; create index on app.s (state)")
    after = await shapes(workshop, plan, "select * from app.s where state = $1")
    same = [key for key in before["0"]["shapes"] if before["0"]["shapes"][key] == after["0"]["shapes"].get(key)]
    assert same, "for the common value nothing changes"
    assert compare(before["0"], after["0"])[0] == CHANGED


SPY = f"""set role {OWNER}; create sequence app.calls;
create function app.spy() returns int language plpgsql immutable as $$begin raise exception 'it ran'; end$$;
create function app.of_row(app.t) returns int language sql immutable as 'select app.spy()';
create function app.plus(int, int) returns int language sql immutable as 'select app.spy()';
create operator app.<+> (leftarg = int, rightarg = int, function = app.plus);
create domain app.small as int check (value > app.spy());
create view app.seen as select * from app.t where v = app.spy();
create table app.guarded (v int); alter table app.guarded enable row level security;
create policy p on app.guarded using (v = app.spy());
grant select on all tables in schema app to w_planner; grant usage on all sequences in schema app to w_planner"""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("select * from app.t where v = app.spy()", "function spy"),
        ("select * from t where v = spy()", "function spy"),
        ("select t.of_row from app.t", "function of_row"),
        ("select * from app.t where v = 1 operator(app.<+>) 2", "operator <+>"),
        ("select * from app.t where v = 1 <+> 2", "operator <+>"),
        ("select * from app.t where v = '5'::app.small", "type small"),
        ("select * from app.seen", "relation seen"),
        ("select * from app.t join app.guarded using (v)", "row-level security of guarded"),
    ],
)
async def test_nothing_of_others_is_planned_with_our_rights(workshop: Workshop, text: str, what: str) -> None:
    workshop.sql(SPY)
    found = await shapes(workshop, await plan_of(workshop), text)
    assert "shapes" not in found["0"]
    assert what in found["0"]["why"], found


async def test_functions_of_the_server_and_of_extensions_are_no_code_of_others(workshop: Workshop) -> None:
    workshop.sql("create extension pg_trgm schema public")
    texts = (
        "select lower(w), count(*) from app.t where v between $1 and $2 group by 1",
        "select similarity(w, $1) from app.t",
    )
    found = await shapes(workshop, await plan_of(workshop), *texts)
    assert all("shapes" in plan for plan in found.values()), found


async def test_what_writes_and_what_may_not_be_read_is_said(workshop: Workshop) -> None:
    plan = await plan_of(workshop)
    found = await shapes(workshop, plan, "update app.t set v = $1", kind="update")
    assert "it writes" in found["0"]["why"]
    workshop.sql(
        f"create table public.hidden (v int); create table app.plain (v int); alter table app.plain owner to {OWNER}"
    )
    found = await shapes(workshop, plan, "select * from public.hidden", "select * from app.nowhere", "select 1 from")
    assert "may not read" in found["0"]["why"]
    assert all("shapes" not in p for p in found.values())
