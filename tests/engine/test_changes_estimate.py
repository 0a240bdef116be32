"""The estimate that the gates judge by: never below what a real build takes, and not absurdly above."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from indexpilot_tui.engine.changes import planning
from indexpilot_tui.engine.changes.estimate import build_estimate, estimator
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import ServerError
from indexpilot_tui.localpg import LocalCluster
from tests.engine.gates_room import plan_of
from tests.faults.workshop import OWNER, Workshop, make_workshop

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server connection for all of them
ROWS = 60_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        made.sql(
            f"""set role {OWNER};
            create table app.wide (id int, big bigint, code text, body text, tags int[], doc jsonb, words tsvector, at timestamptz);
            insert into app.wide select i, i, md5(i::text), repeat(md5(i::text), 2 + i % 3), array[i % 50, i % 7, i],
              jsonb_build_object('a', i % 9, 'name', md5(i::text), 'list', array[i, i + 1]),
              to_tsvector('simple', md5(i::text) || ' ' || md5((i % 100)::text)), now() - i * interval '1 s'
            from generate_series(1, {ROWS}) i;
            analyze app.wide;
            create table app.fresh (id int, code text) with (autovacuum_enabled = off);
            insert into app.fresh select i, md5(i::text) from generate_series(1, {ROWS}) i;
            reset role; create extension pg_trgm schema public"""
        )
        yield made


async def estimated(shop: Workshop, ddl: str) -> tuple[int, int, str]:
    """What was estimated, and what the server made of it, bytes."""
    plan = await plan_of(shop, ddl)
    found = await build_estimate(shop.monitor, plan)
    shop.sql(f"set role {OWNER}; {plan.ddl.replace('CONCURRENTLY ', '')}")
    size = shop.sql("select pg_relation_size(%s::regclass)", f"{plan.schema}.{plan.index}")[0][0]
    shop.sql(f'drop index {plan.schema}."{plan.index}"')
    return found.index_bytes, int(size), found.basis


@pytest.mark.parametrize(
    ("ddl", "most"),
    [
        ("create index on app.wide (id)", 1.1),
        ("create unique index on app.wide (big)", 1.1),
        ("create index on app.wide (code)", 1.15),
        ("create index on app.wide (body)", 1.15),
        ("create index on app.wide (id, code) include (big)", 1.15),
        ("create index on app.wide (id) with (fillfactor = 50)", 1.1),
        ("create index on app.wide (lower(code))", 1.15),
        ("create index on app.wide (at desc) where id % 2 = 0", 2.3),  # a predicate is not counted on
        ("create index on app.wide using hash (code)", 1.6),
        ("create index on app.wide using brin (at)", 2.0),
        ("create index on app.wide using gin (tags)", 4),
        ("create index on app.wide using gin (doc)", 4),
        ("create index on app.wide using gin (words)", 4),
        ("create index on app.wide using gin (code public.gin_trgm_ops)", 4),
        ("create index on app.wide using gist (words)", 6),
    ],
)
async def test_no_real_index_is_larger_than_its_estimate(shop: Workshop, ddl: str, most: float) -> None:
    said, real, basis = await estimated(shop, ddl)
    print(f"{ddl}: {said / real:.2f} ({basis})")
    assert 0.99 * real <= said <= most * real, (said, real)


async def test_a_table_that_was_never_analyzed_is_bounded_by_its_bytes(shop: Workshop) -> None:
    said, real, basis = await estimated(shop, "create index on app.fresh (code)")
    assert real <= said
    assert "never analyzed" in basis
    assert "widths of code not known" in basis


async def test_an_access_method_without_a_model_counts_twice_the_table(shop: Workshop) -> None:
    plan = replace(await plan_of(shop, "create index on app.wide (id)"), method="hnsw")
    found = await build_estimate(shop.monitor, plan)
    table = shop.sql("select pg_table_size('app.wide')")[0][0]
    assert found.index_bytes == 2 * table
    assert "no size model for hnsw" in found.basis


async def test_temporary_files_and_wal_belong_to_it(shop: Workshop) -> None:
    plan = await plan_of(shop, "create index on app.wide (code)")
    found = await build_estimate(shop.monitor, plan)
    assert found.temp_bytes == 0  # it fits 64 MB
    assert found.wal_bytes == int(found.index_bytes * 0.9)
    await shop.monitor.execute("select set_config('maintenance_work_mem', '1MB', false)")
    try:
        small = await build_estimate(shop.monitor, plan)
    finally:
        await shop.monitor.execute("select set_config('maintenance_work_mem', '64MB', false)")
    assert small.temp_bytes > ROWS * 40
    assert found.seconds is not None
    assert 0.1 <= found.seconds < 60


async def test_all_partitions_count(shop: Workshop) -> None:
    shop.sql(
        f"""set role {OWNER};
        create table app.parts (id int, code text) partition by range (id);
        create table app.parts_1 partition of app.parts for values from (0) to (100000);
        create table app.parts_2 partition of app.parts for values from (100000) to (200000);
        insert into app.parts select i, md5(i::text) from generate_series(1, 150000) i; analyze app.parts"""
    )
    leaf = await plan_of(shop, "create index on app.parts_1 (code)")
    oid = shop.sql("select 'app.parts'::regclass::oid::int8")[0][0]
    one = await build_estimate(shop.monitor, leaf)
    both = await build_estimate(shop.monitor, replace(leaf, table_oid=oid, table="parts"))
    assert 1.4 * one.index_bytes < both.index_bytes < 1.7 * one.index_bytes


async def test_a_rebuild_is_as_large_as_what_is_there_and_a_drop_takes_nothing(shop: Workshop) -> None:
    shop.sql(f"set role {OWNER}; create index again on app.wide (code)")
    size, oid = shop.sql("select pg_relation_size('app.again'), 'app.again'::regclass::oid::int8")[0]
    plan = await planning.make_plan(shop.monitor, parse_index_statement("drop index app.again"))
    drop = await build_estimate(shop.monitor, plan)
    assert (drop.index_bytes, drop.temp_bytes, drop.wal_bytes, drop.seconds) == (0, 0, 0, None)
    rebuilt = await build_estimate(shop.monitor, replace(plan, kind="reindex"))
    assert rebuilt.index_bytes == size
    assert rebuilt.tablespace == "pg_default"
    assert oid == plan.index_oid
    shop.sql("drop index app.again")
    with pytest.raises(ServerError, match="is gone"):
        await build_estimate(shop.monitor, replace(plan, kind="reindex"))


async def test_what_is_gone_is_an_error_and_no_zero(shop: Workshop) -> None:
    plan: Plan = replace(await plan_of(shop, "create index on app.wide (id)"), table_oid=1)
    with pytest.raises(ServerError, match="no storage that could be measured"):
        await build_estimate(shop.monitor, plan)
    plan = replace(await plan_of(shop, "create index on app.wide (id)"), ddl="create index x on app.wide (gone)")
    with pytest.raises(ServerError, match="no column gone"):
        await build_estimate(shop.monitor, plan)


async def test_it_is_asked_once_for_all_gates(shop: Workshop) -> None:
    ask = estimator(shop.monitor, await plan_of(shop, "create index on app.wide (id)"))
    assert await ask() is await ask()


async def test_earlier_builds_here_tell_how_long_the_next_one_takes(shop: Workshop) -> None:
    plan = await plan_of(shop, "create index on app.wide (code)")
    general = await build_estimate(shop.monitor, plan)
    heap = shop.sql("select pg_relation_size('app.wide')")[0][0]
    slow = MeasuredBuild(1, "i", "btree", 100.0, 0.0, 60.0, general.index_bytes, heap, ROWS, None, None, False)
    asked = 0

    async def builds() -> list[MeasuredBuild]:
        nonlocal asked
        asked += 1
        return [slow]

    measured = await estimator(shop.monitor, plan, builds)()
    assert general.seconds is not None
    assert general.seconds < 10
    assert measured.seconds is not None
    assert 150 < measured.seconds < 210  # one build: up to 1.8 times as long
    drop = replace(plan, kind="drop")
    assert (await estimator(shop.monitor, drop, builds)()).seconds is None
    assert asked == 1
