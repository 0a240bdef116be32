"""The demo as an operator meets it: it is there in seconds, and every planted trouble is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from indexpilot_tui.demo import Demo
from indexpilot_tui.errors import LocalServerError, UsageError
from indexpilot_tui.localpg import LocalCluster, confinement

HOT = "SELECT count(*), sum(quantity) FROM shop.order_items WHERE product_id = 700"

KINDS = {"SELECT", "INSERT", "UPDATE", "DELETE"}


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One demo for the tests that change nothing in it."""
    told: list[str] = []
    begun = time.monotonic()
    one = asyncio.run(Demo.start(progress=told.append))
    took = time.monotonic() - begun
    print(f"demo started in {took:.2f} s")
    assert took < 15, "the promise of the demo"
    assert "demo" in told[0]
    assert "generated" in told[0]
    assert one.cluster.access.startswith("peer: "), "only who started it is let in"
    assert one.cluster.confinement == confinement.status()
    yield one
    asyncio.run(one.stop())


async def _rows(conninfo: str, sql: str) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
        return await (await connection.execute(sql.encode())).fetchall()


async def _one(conninfo: str, sql: str) -> Any:
    return (await _rows(conninfo, sql))[0][0]


async def _plan(conninfo: str, sql: str) -> dict[str, Any]:
    plan: dict[str, Any] = (await _one(conninfo, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"))[0]
    return plan


async def _least_ms(conninfo: str, sql: str) -> float:
    """Execution time, the best of five: the workload and whatever else runs here take the processor in between."""
    return min([float((await _plan(conninfo, sql))["Execution Time"]) for _ in range(5)])


async def test_the_shop_has_at_least_half_a_million_rows_with_statistics(demo: Demo) -> None:
    counts = await _rows(
        demo.monitor_conninfo,
        "SELECT c.relname, c.reltuples, s.last_vacuum FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid"
        " WHERE s.schemaname = 'shop'",
    )
    assert len(counts) == 6
    assert sum(row[1] for row in counts) >= 500_000
    assert all(row[2] is not None for row in counts)


async def test_the_hot_query_has_no_index_and_tops_the_workload(demo: Demo) -> None:
    plan = (await _plan(demo.monitor_conninfo, HOT))["Plan"]
    assert plan["Plans"][0]["Node Type"] == "Seq Scan"
    deadline = time.monotonic() + 20
    while True:
        top = await _rows(
            demo.monitor_conninfo,
            "SELECT query, calls, total_exec_time, mean_exec_time, sum(total_exec_time) OVER () FROM pg_stat_statements s"
            " JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'shop_app' ORDER BY total_exec_time DESC",
        )
        if top and top[0][1] >= 50 and {row[0].split()[0] for row in top} >= KINDS:
            break
        assert time.monotonic() < deadline, f"the workload did too little: {top}"
        await asyncio.sleep(0.5)
    query, calls, total, mean, whole = top[0]
    print(f"hot query: {calls} calls, mean {mean:.1f} ms, {100 * total / whole:.0f} % of the workload's time")
    assert "order_items WHERE product_id = $1" in query
    assert total / whole > 0.5
    assert demo.workload_log.read_text() == ""


async def test_the_status_column_is_skewed_and_the_rare_value_is_looked_for(demo: Demo) -> None:
    share = await _one(demo.monitor_conninfo, "SELECT avg((status = 'done')::int)::float8 FROM shop.orders")
    assert 0.985 < share < 0.995
    plan = (await _plan(demo.monitor_conninfo, "SELECT id FROM shop.orders WHERE status = 'pending'"))["Plan"]
    assert plan["Node Type"] == "Seq Scan"
    assert 100 < plan["Actual Rows"] < 5_000


async def test_unused_duplicate_prefix_and_invalid_indexes_are_there(demo: Demo) -> None:
    indexes = {
        name: (valid, scans, definition.split(" USING ")[1])
        for name, valid, scans, definition in await _rows(
            demo.monitor_conninfo,
            "SELECT s.indexrelname, i.indisvalid, s.idx_scan, pg_get_indexdef(i.indexrelid) FROM pg_index i"
            " JOIN pg_stat_user_indexes s USING (indexrelid) WHERE s.schemaname = 'shop'",
        )
    }
    assert indexes["orders_reference_idx"][:2] == (True, 0)
    assert indexes["order_items_order_id_idx"][2] == indexes["order_items_order_idx"][2] == "btree (order_id)"
    assert indexes["payments_order_id_idx"][2] == "btree (order_id)"
    assert indexes["payments_order_id_paid_at_idx"][2] == "btree (order_id, paid_at)"
    assert [name for name, row in indexes.items() if not row[0]] == ["customers_email_key"]


async def test_exactly_one_foreign_key_lacks_an_index_and_its_parent_is_deleted_from(demo: Demo) -> None:
    missing = await _rows(
        demo.monitor_conninfo,
        "SELECT conname FROM pg_constraint k WHERE contype = 'f' AND connamespace = 'shop'::regnamespace AND NOT EXISTS"
        " (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indkey[0] = k.conkey[1])",
    )
    assert missing == [("events_customer_id_fkey",)]


async def test_the_logins_have_the_rights_of_their_group_and_no_more(demo: Demo) -> None:
    for conninfo, login, groups in (
        (demo.monitor_conninfo, "demo_monitor", {"indexpilot_monitor"}),
        (demo.operator_conninfo, "demo_operator", {"indexpilot_monitor", "indexpilot_operator", "shop_owner"}),
        (demo.approver_conninfo, "demo_approver", {"indexpilot_monitor", "indexpilot_approver"}),
    ):
        rows = await _rows(
            conninfo,
            "SELECT session_user::text, rolname::text FROM pg_roles, (SELECT oid AS me FROM pg_roles WHERE rolname ="
            " session_user) m WHERE oid IN (SELECT roleid FROM pg_auth_members WHERE member = me)",
        )
        assert {row[0] for row in rows} == {login}
        assert {row[1] for row in rows} == groups
        assert await _one(conninfo, "SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'shop'")
        assert not await _one(conninfo, "SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await _rows(conninfo, "CREATE INDEX ON shop.orders (status)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await _rows(demo.approver_conninfo, "SET ROLE shop_owner")


async def test_no_transaction_of_the_workload_is_long(demo: Demo) -> None:
    oldest = 0.0
    for _ in range(40):
        age = await _one(
            demo.monitor_conninfo,
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity"
            " WHERE usename = 'shop_app'",
        )
        oldest = max(oldest, age)
        await asyncio.sleep(0.05)
    print(f"oldest transaction of the workload: {1000 * oldest:.0f} ms")
    assert oldest < 2.0


async def test_clients_whose_sessions_are_ended_come_back(demo: Demo) -> None:
    async def clients() -> set[int]:
        rows = await _rows(
            demo.monitor_conninfo, "SELECT pid FROM pg_stat_activity WHERE application_name IN ('shop-web', 'shop-batch')"
        )
        return {row[0] for row in rows}

    wanted = demo.scenario.web_clients + demo.scenario.batch_clients
    deadline = time.monotonic() + 10  # they connect while the demo goes on to start
    while len(before := await clients()) != wanted:
        assert time.monotonic() < deadline, before
        await asyncio.sleep(0.1)
    superuser = demo.cluster.conninfo("shop")
    await _rows(superuser, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop_app'")
    deadline = time.monotonic() + 10
    while len(now := await clients()) != wanted or now & before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert demo.workload_running


async def test_the_missing_index_can_be_built_under_load_and_helps() -> None:
    async with await Demo.start() as demo:
        rows = "SELECT sum(quantity), sum(product_id) FROM shop.order_items WHERE id <= 300000"
        sums = await _rows(demo.monitor_conninfo, rows)
        before = await _least_ms(demo.monitor_conninfo, HOT)
        async with await AsyncConnection.connect(demo.operator_conninfo, autocommit=True) as operator:
            await operator.execute("SET ROLE shop_owner")
            await operator.execute("CREATE INDEX CONCURRENTLY items_product_idx ON shop.order_items (product_id)")
        after = await _least_ms(demo.monitor_conninfo, HOT)
        print(f"hot query: {before:.2f} ms before, {after:.2f} ms after")
        assert after < before / 3
    async with await Demo.start() as again:
        assert await _rows(again.monitor_conninfo, rows) == sums, "every demo has the same rows"


async def test_an_unknown_scenario_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError) as caught:
        await Demo.start("huge")
    assert caught.value.exit_status == 64
    assert "small, medium, stress" in str(caught.value)


async def test_a_demo_that_cannot_be_filled_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[LocalCluster] = []

    async def full(conninfo: str, *_: object) -> None:
        await _rows(conninfo, "DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$")

    real = LocalCluster.start

    async def start(*args: Any, **options: Any) -> LocalCluster:
        started.append(await real(*args, **options))
        return started[-1]

    monkeypatch.setattr("indexpilot_tui.demo.sample.create", full)
    monkeypatch.setattr(LocalCluster, "start", start)
    with pytest.raises(LocalServerError, match="no space left"):
        await Demo.start()
    assert not started[0].running
    assert not started[0].directory.exists()
