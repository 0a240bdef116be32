"""Each gate as the only thing that stands between an approved change and harm: without it, everything passes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.postgres.query_rate import QueryRate
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import GATES, evaluate
from tests.engine.gates_room import approved, configured, printing, refusing, workshop
from tests.faults.workshop import OWNER, Workshop

__all__ = ["workshop"]

Scene = Callable[[Workshop, GateContext], Awaitable[GateContext]]
SCENES: dict[str, tuple[str, Status, Scene]] = {}  # guard of the verdict -> (gate, status, what makes it so)


def scene(gate: str, guard: str, status: Status) -> Callable[[Scene], Scene]:
    def keep(made: Scene) -> Scene:
        SCENES[guard] = (gate, status, made)
        return made

    return keep


@scene("tls", "tls", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    facts = replace(ctx.session.facts, tls=TlsFacts(True, False, "require"))
    return replace(ctx, session=replace(ctx.session, facts=facts))


@scene("server_version", "server_version", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    class Old:
        """A server that builds corrupt indexes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(workshop.monitor, name)

        async def row(self, query: Any, params: Any = None) -> Any:
            found = await workshop.monitor.row(query, params)
            return found | {"version": 140003} if found and "max_prepared" in found else found

    return replace(ctx, session=Old())  # type: ignore[arg-type]


@scene("primary", "primary", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    facts = replace(ctx.session.facts, database="another")  # made from the same template: its tables have the same OIDs
    return replace(ctx, session=replace(ctx.session, facts=facts))


@scene("direct_session", "direct_session", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    facts = replace(ctx.session.facts, client_pid=ctx.session.facts.client_pid + 1)
    return replace(ctx, session=replace(ctx.session, facts=facts))


@scene("privilege", "privilege", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.sql(f"revoke create on schema app from {OWNER}")
    workshop.sql(f"alter schema app owner to current_user; grant usage on schema app to {OWNER}")
    return ctx


@scene("kill_switch", "kill_switch", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    await workshop.journal.stop_starts("incident")
    return ctx


@scene("approval", "approval", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return replace(ctx, plan=replace(ctx.plan, ddl=f"{ctx.the_plan.ddl} "))  # type: ignore[type-var]


@scene("clock", "clock", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, maintenance_window={"max_clock_skew_seconds": 1e-9})


@scene("maintenance_window", "maintenance_window", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    other = (datetime.now(UTC) + timedelta(days=3)).weekday()
    return configured(ctx, maintenance_window={"enabled": True, "days_of_week": [other]})


@scene("rate_limit", "rate_limit", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    other = await workshop.approved("create index on app.other (id)")
    workshop.sql(
        "insert into indexpilot.rate_slots (change_id, claimed_by) select %s, 'x' from generate_series(1, 50)", other
    )
    return ctx


@scene("query_rate", "query_rate", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    class Full(QueryRate):
        """No room for one more, though nobody waits."""

        def free_in(self, statements: int) -> float:
            return 1.0

        async def turn(self, statements: int, *, wait: bool) -> float:
            return 0.0

    return replace(ctx, session=replace(ctx.session, rate=Full(1, 60)))


@scene("one_at_a_time", "one_at_a_time", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    other = await workshop.approved("create index on app.other (id)")
    await workshop.journal.claim(
        other,
        system_identifier=workshop.monitor.facts.system_identifier,
        timeline=1,
        rate_max=50,
        rate_window_s=3600,
        lease_s=5,
    )
    return ctx


@scene("load", "load.oldest_transaction", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.blocker("select 1")
    time.sleep(0.3)
    return configured(ctx, throttle={"enabled": True, "max_oldest_xact_seconds": 0.2})


@scene("cpu_throttle", "cpu_throttle", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, metrics={"m": printing("81")}, cpu_throttle={"metric": "m"})


@scene("replicas", "replicas.slots", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.sql("select pg_create_physical_replication_slot('alone', true)")
    workshop.sql("update app.t set v = v")
    return configured(ctx, replicas={"max_retained_wal_mb": 0.1})


@scene("disk", "disk", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, metrics={"m": printing('{"free_bytes": 1, "total_bytes": 100}')}, disk={"metric": "m"})


@scene("storage_budget", "storage_budget.total", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, storage_budget={"max_storage_total_mb": 0.001})


@scene("storage_budget", "storage_budget.per_table", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, storage_budget={"max_storage_per_table_mb": 0.001})


@scene("backup", "backup", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, metrics={"m": printing("99999")}, backup={"metric": "m"})


@scene("write_performance", "write_performance.indexes", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, write_performance={"max_indexes_per_table": 1})


@scene("blockers", "blockers.lock_holders", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.blocker("update app.t set w = w where id = 3")
    time.sleep(0.2)
    return configured(ctx, blockers={"max_writer_age_seconds": 0.1})


@scene("blockers", "blockers.snapshots", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.blocker("set transaction isolation level repeatable read", "select 1 from app.other")
    time.sleep(0.2)
    return configured(ctx, blockers={"max_snapshot_age_seconds": 0.1})


@scene("blockers", "blockers.prepared", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.sql("begin; select 1 from app.other for update; prepare transaction 'alone'")
    time.sleep(0.2)
    return configured(ctx, blockers={"max_snapshot_age_seconds": 0.1})


@scene("same_table_ddl", "same_table_ddl", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    workshop.blocker("lock table app.t in share update exclusive mode")
    return ctx


@scene("leftovers", "leftovers", Status.BLOCK)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    with pytest.raises(Exception, match="could not create unique index"):
        workshop.sql("create unique index concurrently dup on app.t (v)")
    return ctx


def test_every_gate_has_its_scene() -> None:
    assert {gate for gate, _, _ in SCENES.values()} == {gate.name for gate in GATES}


@pytest.mark.parametrize("guard", SCENES)
async def test_it_alone_refuses(workshop: Workshop, guard: str) -> None:
    gate, status, play = SCENES[guard]
    ctx = await approved(workshop)
    assert await refusing(ctx) == {}
    try:
        there = replace(await play(workshop, ctx), now=ctx.now + timedelta(milliseconds=1))
        refused = await refusing(there)
        without = [g for g in GATES if g.name != gate]
        assert [v.guard for v in await evaluate(there, without) if not v.allows] == []
    finally:
        if gate == "replicas":
            workshop.sql("select pg_drop_replication_slot('alone')")
        if guard == "blockers.prepared":
            workshop.sql("rollback prepared 'alone'")
        if guard == "one_at_a_time":
            workshop.sql("update indexpilot.changes set state = 'failed' where state = 'starting'")
    assert {v.guard: v.status for v in refused.values()} == {guard: status}
