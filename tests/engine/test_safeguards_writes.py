"""What a new index costs writers: too many of them, updates that stop being HOT, writes that take long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.observe.source import Source
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.engine.safeguards.hot_columns import Written, indexed_columns, lost_share, written
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.engine.safeguards.table_writes import (
    Statements,
    Writes,
    counts_of,
    facts_of,
    statements_of,
)
from indexpilot_tui.engine.safeguards.write_performance import GATE, judge_count, judge_hot, judge_latency
from indexpilot_tui.settings.safeguards import WritePerformance
from tests.engine.gates_room import approved, configured, context, plan_of, refusing, verdict, workshop
from tests.faults.workshop import OWNER, Workshop

__all__ = ["workshop"]

POLICY = WritePerformance()


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("update app.t set v = $1, w = $2 where id = $3", {"v", "w"}),
        ('UPDATE "t" SET v = v + 1', {"v"}),
        ("update app.t set (v, w) = ($1, $2)", {"v", "w"}),
        ("with x as (update t set v = $1 returning id) select * from x", {"v"}),
        ("insert into app.t values ($1) on conflict (id) do update set w = excluded.w", {"w"}),
        ("insert into app.t values ($1) on conflict do nothing", set()),
        (
            "merge into t using s on t.id = s.id when matched then update set v = s.v when not matched then insert values (1)",
            {"v"},
        ),
        ("insert into t select * from s", set()),
        ("delete from t", set()),
        ("update other set v = t.v from t", None),
        ("update elsewhere.t set v = 1", None),
        ("select * from t for update", None),
    ],
)
def test_what_a_statement_writes(text: str, columns: set[str] | None) -> None:
    found = written(text, 5, "app", "t")
    assert (None if found is None else found.columns) == (None if columns is None else frozenset(columns))


def test_what_cannot_be_parsed_may_write_anything() -> None:
    assert written("update t set ???", 5, "app", "t") == Written(5, None)


def test_what_an_index_looks_at() -> None:
    ddl = "create index on app.t (lower(a || b), c desc) include (d) where e > 3 and f is null"
    assert indexed_columns(ddl) == frozenset("abcdef")


def updates(*pairs: tuple[float, set[str] | None]) -> list[Written]:
    return [Written(calls, None if columns is None else frozenset(columns)) for calls, columns in pairs]


@pytest.mark.parametrize(
    ("statements", "today", "share"),
    [
        (updates((10, {"v"}), (30, {"w"})), set(), 0.25),
        (updates((10, {"v"}), (30, {"w"})), {"v"}, 0.0),  # not HOT already
        (updates((10, {"v", "k"}), (30, {"w"})), {"k"}, 0.0),
        (updates((10, None), (30, {"w"})), set(), 0.25),  # the worst is assumed
        (updates((99, set()), (19, {"v"})), set(), None),  # inserts do not count, and too few updates are known
        (updates((19, {"v"}), (1, {"w"})), set(), 0.95),
        ([], set(), None),
    ],
)
def test_the_share_of_updates_that_stop_being_hot(statements: list[Written], today: set[str], share: float | None) -> None:
    assert lost_share(statements, frozenset(today), frozenset({"v"})) == share


def test_the_edges() -> None:
    assert judge_count(10, POLICY).status is Status.PASS
    assert judge_count(11, POLICY).status is Status.BLOCK
    assert "many" in judge_count(7, POLICY).evidence
    assert "many" not in judge_count(6, POLICY).evidence
    none = Statements(Source("public"))
    assert judge_hot(0.2, 1, none, POLICY).status is Status.PASS
    assert judge_hot(0.2001, 1, none, POLICY).status is Status.BLOCK
    assert "1 statements could not be read" in judge_hot(0.1, 1, replace(none, found=(Written(1, None),)), POLICY).evidence
    assert judge_latency(Writes(5, 100, None), 1, POLICY).status is Status.PASS
    assert judge_latency(Writes(5, 100.01, None), 1, POLICY).status is Status.WAIT
    assert judge_latency(Writes(0, None, None), 1, POLICY).measured == "no writes"


async def again(ctx: GateContext, **safeguards: Any) -> GateContext:
    return replace(configured(ctx, **safeguards), now=await database_now(ctx.session))


async def test_one_index_too_many_is_stopped_by_this_alone(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    for number in range(3):
        workshop.sql(f"create index on app.t (w, id) where id > {number}")
    four = {"max_indexes_per_table": 4}  # the primary key and three: the planned one is the fifth
    refused = await refusing(await again(ctx, write_performance=four))
    assert {k: v.status for k, v in refused.items()} == {"write_performance.indexes": Status.BLOCK}
    assert await refusing(await again(ctx, write_performance={"max_indexes_per_table": 5})) == {}
    assert await refusing(await again(ctx, write_performance=four | {"enabled": False})) == {}
    assert await refusing(replace(await again(ctx, write_performance=four), rollback=True)) == {}
    name = next(i for i in workshop.indexes() if i.startswith("t_w"))
    drop = await again(await context(workshop, await plan_of(workshop, f"drop index app.{name}")), write_performance=four)
    assert (await verdict(drop, "write_performance")).allows


QUIET = "create table app.h (id int primary key, v int, w text) with (fillfactor = 50)"  # nobody else writes it


async def quiet_table(workshop: Workshop) -> GateContext:
    """An approved index on a column of a table that only the test writes."""
    workshop.sql(
        f"set role {OWNER}; {QUIET}; insert into app.h select i, i, 'x' from generate_series(1, 500) i; analyze app.h"
    )
    change = await workshop.journal.change(await workshop.approved("create index on app.h (v)"))
    return await context(workshop, change.plan, change=change)


async def test_the_loss_of_hot_updates_is_stopped_by_this_alone(workshop: Workshop) -> None:
    ctx = await quiet_table(workshop)
    assert "no update of the table is HOT" in (await verdict(ctx, "write_performance.hot")).evidence
    for n in range(30):
        workshop.sql("update app.h set v = v + 1 where id = %s", n + 1)
        workshop.sql("update app.h set w = w where id = %s", n + 100)
    await settle(workshop)
    refused = await refusing(await again(ctx))
    assert {k: v.status for k, v in refused.items()} == {"write_performance.hot": Status.BLOCK}
    assert "50 % of the updates would not be HOT any more" in refused["write_performance.hot"].evidence
    assert await refusing(await again(ctx, write_performance={"write_overhead_threshold": 0.51})) == {}
    assert await refusing(replace(await again(ctx), rollback=True)) == {}
    other = await context(workshop, await plan_of(workshop, "create index on app.h (id)"))
    assert (await verdict(await again(other), "write_performance.hot")).measured == "0 %"
    brin = await context(workshop, await plan_of(workshop, "create index on app.h using brin (v)"))
    assert "BRIN" in (await verdict(await again(brin), "write_performance.hot")).evidence
    workshop.sql("select pg_stat_statements_reset()")
    unseen = await verdict(await again(ctx), "write_performance.hot")
    assert (unseen.status, unseen.measured) == (Status.PASS, "not measured")
    unseen = await verdict(await again(ctx, environment="production", write_performance={}), "write_performance.hot")
    assert unseen.status is Status.UNKNOWN


async def settle(workshop: Workshop) -> None:
    """Wait for the counters of sessions that have ended."""
    for _ in range(50):
        if workshop.sql("select pg_stat_get_tuples_hot_updated('app.h'::regclass)")[0][0] > 50:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the updates are not HOT")


async def test_slow_writes_hold_a_build_and_nothing_else_does(workshop: Workshop) -> None:
    ctx = await quiet_table(workshop)
    workshop.sql("update app.h set w = w where id = 1")  # its text is known from now on
    tight = configured(ctx, write_performance={"max_write_latency_ms": 20}, throttle={"sample_seconds": 0.8})
    assert await refusing(replace(tight, now=await database_now(workshop.monitor))) == {}
    blocker = workshop.blocker("select 1 from app.h where id = 1 for update")
    waiting = asyncio.create_task(asyncio.to_thread(workshop.sql, "update app.h set w = w where id = 1"))
    await asyncio.sleep(0.3)
    asking = asyncio.create_task(refusing(replace(tight, now=await database_now(workshop.monitor))))
    await asyncio.sleep(0.3)
    blocker.rollback()
    await waiting
    refused = await asking
    assert {k: v.status for k, v in refused.items()} == {"write_performance.latency": Status.WAIT}


FORGET = """select pg_stat_statements_reset(0, s.dbid, s.queryid) from pg_stat_statements s
where s.dbid = (select oid from pg_database where datname = current_database()) and s.query ~ '^(insert into|update) app.h'"""


async def test_a_full_pg_stat_statements_forgets_and_the_gate_is_read_all_the_same(workshop: Workshop) -> None:
    """Between the two readings, as happens on a server with more statements than it counts: once here, always there."""
    ctx = configured(await quiet_table(workshop), throttle={"sample_seconds": 0.5})
    first = replace(ctx, now=await database_now(ctx.session))
    assert "no write" in (await verdict(first, "write_performance.latency")).evidence
    assert len(workshop.sql(FORGET)) == 1
    again = replace(ctx, now=await database_now(ctx.session))
    assert (await verdict(again, "write_performance.hot")).allows
    workshop.sql("update app.h set w = w where id = 1")  # it came again; what was there before is not
    third = replace(ctx, now=await database_now(ctx.session), memory=Memory())
    await GATE.prime(third)  # type: ignore[misc]
    assert len(workshop.sql(FORGET)) == 1
    workshop.sql("update app.h set w = w where id = 1")
    # that one write is not all that was done meanwhile: it is looked once more, from there
    found = await verdict(third, "write_performance.latency")
    assert found.allows
    assert "no write" in found.evidence


async def test_partitions_count_together(workshop: Workshop) -> None:
    workshop.sql(
        f"""set role {OWNER};
        create table app.p (id int, v int) partition by range (id);
        create table app.p1 partition of app.p for values from (0) to (100);
        create table app.p2 partition of app.p for values from (100) to (200);
        create index on app.p (id); create index on app.p1 (v)"""
    )
    plan = await plan_of(workshop)
    oid = workshop.sql("select 'app.p'::regclass::oid::int8")[0][0]
    facts = await facts_of(workshop.monitor, replace(plan, table_oid=oid))
    assert (facts.indexes, len(facts.oids), facts.columns) == (2, 3, frozenset({"id", "v"}))


async def test_without_pg_stat_statements_production_does_not_know_its_writes(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    workshop.sql("drop extension pg_stat_statements")
    v = await verdict(await again(ctx), "write_performance.writes")
    assert v.allows
    v = await verdict(await again(ctx, environment="production", write_performance={}), "write_performance.writes")
    assert v.status is Status.UNKNOWN
    assert "CREATE EXTENSION pg_stat_statements" in v.evidence


async def test_counters_that_cannot_be_read_are_unknown(workshop: Workshop) -> None:
    plan = await plan_of(workshop)
    statements = await statements_of(workshop.monitor, plan)
    await counts_of(workshop.monitor, await facts_of(workshop.monitor, plan), statements)
    ctx = await context(workshop, plan)
    await workshop.monitor.close()
    assert (await verdict(ctx, "write_performance")).status is Status.UNKNOWN
