"""Room: on the disk, and in the budget for indexes. Each is tried as the only thing that stands in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.safeguards import disk, storage_budget
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.disk import Space
from indexpilot_tui.localpg import LocalCluster
from tests.engine.gates_room import approved, configured, context, plan_of, printing, refusing, verdict, workshop
from tests.faults.workshop import Workshop, make_workshop

__all__ = ["workshop"]

SHOWN = "production_safeguards.disk.metric"


def volume(free: float, total: float = 1e9, **more: Any) -> dict[str, Any]:
    return {"metrics": {"host": printing(json.dumps({"free_bytes": free, "total_bytes": total}))},
            "disk": {"metric": "host"} | more}  # fmt: skip


async def needs(ctx: GateContext) -> BuildEstimate:
    return await ctx.the_estimate()


@pytest.mark.parametrize(
    ("free", "need", "status", "why"),
    [
        (1300, 1000, Status.PASS, "needed"),
        (1100, 1000, Status.PASS, "needed"),  # exactly a tenth of 1000 is left
        (1099, 1000, Status.BLOCK, "% of"),
        (1000, 1000, Status.BLOCK, "more than there is"),  # all of it: none is left, and it must be less
        (999, 1000, Status.BLOCK, "more than there is"),
        (100, 0, Status.PASS, "of 1.0 kB"),
        (99, 0, Status.BLOCK, "9.9 % of 1.0 kB would be free"),
        (0, 0, Status.BLOCK, "0.0 %"),
    ],
)
def test_the_edges_of_room(free: float, need: float, status: Status, why: str) -> None:
    found = disk.judge(Space(free, 1000, "x"), need, 10, "")
    assert (found.status, why in found.evidence) == (status, True), found


def test_need_decides_alone_where_nothing_must_be_left() -> None:
    assert disk.judge(Space(1001, 5000, "x"), 1000, 0, "").allows
    assert not disk.judge(Space(1000, 5000, "x"), 1000, 0, "").allows


async def test_a_build_without_room_is_stopped_by_this_alone(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    build = await needs(ctx)
    wanted = 1.3 * (build.index_bytes + build.temp_bytes + build.wal_bytes)
    enough = configured(ctx, **volume(wanted + 1e6, total=1e7))
    assert await refusing(enough) == {}
    refused = await refusing(configured(ctx, **volume(wanted - 1, total=1e7)))
    assert list(refused) == ["disk"]
    assert refused["disk"].status is Status.BLOCK
    assert refused["disk"].setting == SHOWN
    assert list(await refusing(configured(ctx, **volume(wanted + 1e6 - 1, total=1e7)))) == ["disk"]  # a tenth must be left
    assert await refusing(configured(ctx, **volume(wanted + 1, total=1e7, min_free_pct=0))) == {}
    assert list(await refusing(configured(ctx, **volume(wanted + 1, total=1e7, min_free_pct=0, safety_factor=1.4)))) == [
        "disk"
    ]
    assert list(await refusing(replace(configured(ctx, **volume(1)), rollback=True))) == [
        "disk"
    ]  # a way back needs room, too


async def test_wal_that_cannot_go_counts_twice(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    build = await needs(ctx)
    need = 1.3 * (build.index_bytes + build.temp_bytes + build.wal_bytes) + 1
    tight = configured(ctx, **volume(need, total=1e8, min_free_pct=0))
    assert await refusing(tight) == {}
    tight = replace(tight, now=ctx.now + timedelta(seconds=1))
    workshop.sql("select pg_create_physical_replication_slot('left_behind', true)")
    try:
        assert list(await refusing(tight)) == ["disk"]
        assert await refusing(configured(ctx, **volume(need + 1.3 * build.wal_bytes, total=1e8, min_free_pct=0))) == {}
    finally:
        workshop.sql("select pg_drop_replication_slot('left_behind')")


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("garbage", "neither a number nor JSON"),
        ("null", "is null"),
        ("{}", "has no key free_bytes"),
        ('{"free_bytes": null, "total_bytes": 5}', "is null"),
        ('{"free_bytes": NaN, "total_bytes": 5}', "no finite number"),
        ('{"free_bytes": 9, "total_bytes": 5}', "cannot be"),
        ('{"free_bytes": 0, "total_bytes": 0}', "cannot be"),
        ("5", "gives no total_bytes, and the target has no disk_capacity_mb"),
    ],
)
async def test_what_is_no_measure_refuses(workshop: Workshop, printed: str, why: str) -> None:
    ctx = configured(await approved(workshop), metrics={"host": printing(printed)}, disk={"metric": "host"})
    refused = await refusing(ctx)
    assert list(refused) == ["disk"]
    assert refused["disk"].status is Status.UNKNOWN
    assert why in refused["disk"].evidence


@pytest.mark.parametrize(
    ("command", "why"),
    [(["false"], "ended with status 1"), (["sleep", "30"], "no answer within 0.2 s"), (["/nowhere"], "cannot be started")],
)
async def test_a_metric_that_fails_or_hangs_refuses(workshop: Workshop, command: list[str], why: str) -> None:
    host = {"command": command, "timeout_seconds": 0.2}
    refused = await refusing(configured(await approved(workshop), metrics={"host": host}, disk={"metric": "host"}))
    assert (list(refused), refused["disk"].status) == (["disk"], Status.UNKNOWN)
    assert why in refused["disk"].evidence


async def test_production_must_know_and_a_playground_may_guess(workshop: Workshop) -> None:
    ctx = await context(workshop, await plan_of(workshop))
    for environment, enabled, status in (
        ("production", None, Status.UNKNOWN), ("production", True, Status.UNKNOWN), ("production", False, Status.PASS),
        ("staging", None, Status.PASS), ("development", None, Status.PASS), ("demo", None, Status.PASS),
        ("development", True, Status.UNKNOWN),
    ):  # fmt: skip
        v = await verdict(configured(ctx, environment=environment, disk={"enabled": enabled}), "disk")
        assert v.status is status, (environment, enabled)
        assert ("production_safeguards.disk.metric" in v.evidence) is (enabled is not False)
    drop = replace(await context(workshop, await plan_of(workshop)), plan=replace(ctx.plan, kind="drop"))  # type: ignore[type-var]
    assert (await verdict(configured(drop, environment="production"), "disk")).allows  # a drop is the cure


async def test_a_capacity_stands_in_for_a_metric(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    row = workshop.sql("select sum(pg_tablespace_size(oid)) from pg_tablespace")[0]
    size = float(row[0]) / 1e6
    large = configured(ctx, target={"disk_capacity_mb": 100 * size})
    v = await verdict(large, "disk")
    assert v.allows
    assert v.setting == "targets.test.disk_capacity_mb"
    assert await refusing(large) == {}
    assert list(await refusing(configured(ctx, target={"disk_capacity_mb": size}))) == ["disk"]
    both = configured(ctx, metrics={"host": printing("50e6")}, disk={"metric": "host"}, target={"disk_capacity_mb": 100})
    assert (await verdict(both, "disk")).measured == "50 MB free"


async def test_another_tablespace_needs_a_metric_of_its_own(workshop: Workshop) -> None:
    ctx = await approved(workshop)

    async def elsewhere() -> BuildEstimate:
        return BuildEstimate(1000, 100, 100, 1, "fast", "")

    ctx = replace(ctx, estimate=elsewhere)
    refused = await refusing(configured(ctx, **volume(1e8)))
    assert list(refused) == ["disk.tablespace"]
    assert refused["disk.tablespace"].status is Status.UNKNOWN
    metrics = {"host": printing('{"free_bytes": 259, "total_bytes": 1000}'),
               "fast": printing('{"free_bytes": 1300, "total_bytes": 2000}')}  # fmt: skip
    policy = {"metric": "host", "tablespace_metrics": {"fast": "fast"}, "min_free_pct": 0}
    assert sorted(await refusing(configured(ctx, metrics=metrics, disk=policy))) == ["disk", "disk.tablespace"]
    metrics = {"host": printing('{"free_bytes": 261, "total_bytes": 1000}'),
               "fast": printing('{"free_bytes": 1301, "total_bytes": 2000}')}  # fmt: skip
    assert await refusing(configured(ctx, metrics=metrics, disk=policy)) == {}


@pytest.fixture
async def indexed(cluster18: LocalCluster) -> Any:
    async with make_workshop(cluster18) as made:
        made.sql("create index one on app.t (w)")
        yield made


def mb(size: float) -> float:
    return size / 1e6


async def test_the_budget_of_all_indexes_and_of_a_table(indexed: Workshop) -> None:
    ctx = await approved(indexed)
    new = (await needs(ctx)).index_bytes
    all_of_them, of_table = indexed.sql(
        "select sum(pg_relation_size(i.indexrelid))::float8, sum(pg_relation_size(i.indexrelid)) filter (where i.indrelid ="
        " 'app.t'::regclass)::float8 from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n"
        " on n.oid = c.relnamespace where n.nspname not in ('pg_catalog', 'pg_toast')"
    )[0]
    for key, used in (("max_storage_total_mb", all_of_them), ("max_storage_per_table_mb", of_table)):
        guard = "storage_budget.total" if "total" in key else "storage_budget.per_table"
        exact = configured(ctx, storage_budget={key: mb(used + new)})
        assert await refusing(exact) == {}, key
        assert "100 % of the budget" in (await verdict(exact, guard)).evidence
        less = configured(ctx, storage_budget={key: mb(used + new - 1)})
        refused = await refusing(less)
        assert list(refused) == [guard]
        assert refused[guard].status is Status.BLOCK
        assert refused[guard].setting == f"production_safeguards.storage_budget.{key}"
        assert await refusing(replace(less, rollback=True)) == {}
        assert await refusing(configured(ctx, storage_budget={key: mb(used), "enabled": False})) == {}
        drop = await context(indexed, await plan_of(indexed, "drop index app.one"))
        assert (await verdict(configured(drop, storage_budget={key: mb(used / 2)}), guard)).allows


def test_the_warning_threshold() -> None:
    assert "80 % of the budget" in storage_budget.judge("total", 70, 10, 100, 80).evidence
    assert "of the budget" not in storage_budget.judge("total", 69, 10, 100, 80).evidence


async def test_without_a_budget_nothing_is_measured(workshop: Workshop) -> None:
    v = await verdict(await context(workshop, await plan_of(workshop)), "storage_budget")
    assert (v.status, v.evidence) == (Status.PASS, "no budget is set")


async def test_sizes_are_read_once_a_minute_and_a_failure_is_not_kept(indexed: Workshop) -> None:
    ctx = configured(await context(indexed), storage_budget={"max_storage_total_mb": 1000})
    before = (await verdict(ctx, "storage_budget.total")).measured
    indexed.sql("create index two on app.t (w)")
    assert (await verdict(ctx, "storage_budget.total")).measured == before
    assert (
        await verdict(configured(ctx, storage_budget={"max_storage_total_mb": 1000}), "storage_budget.total")
    ).measured > before
