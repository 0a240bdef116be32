"""Each gate as the only thing that stands between an approved change and harm: without it, everything passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.query_rate import QueryRate
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import GATES, evaluate
from indexpilot_tui.errors import ServerError
from indexpilot_tui.localpg import LocalCluster
from tests.engine import alone_load, alone_replicas, alone_writers
from tests.engine.alone import TRIED, Place, play
from tests.engine.gates_room import approved, configured, printing, refusing, workshop
from tests.faults.workshop import OWNER, Workshop, make_workshop
from tests.standby import Standby, standby_of

__all__ = ["alone_load", "alone_replicas", "alone_writers", "workshop"]

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


@scene("cpu_throttle", "cpu_throttle", Status.WAIT)
async def _(workshop: Workshop, ctx: GateContext) -> GateContext:
    return configured(ctx, metrics={"m": printing("81")}, cpu_throttle={"metric": "m"})


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


@pytest.mark.parametrize("guard", [guard for guard, scene in TRIED.items() if not scene.followed])
async def test_a_change_that_is_tried_is_refused_by_it_alone(workshop: Workshop, guard: str) -> None:
    await play(Place(workshop), guard, TRIED[guard])


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
        if guard == "blockers.prepared":
            workshop.sql("rollback prepared 'alone'")
        if guard == "one_at_a_time":
            workshop.sql("update indexpilot.changes set state = 'failed' where state = 'starting'")
    assert {v.guard: v.status for v in refused.values()} == {guard: status}


@pytest.fixture(scope="module")
def followed() -> Iterator[tuple[LocalCluster, Standby]]:
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off", "wal_receiver_status_interval": "1s"}
    cluster = asyncio.run(LocalCluster.start("alone", settings=settings))
    try:
        with standby_of(cluster) as standby:
            yield cluster, standby
    finally:
        asyncio.run(cluster.stop())


@pytest.mark.parametrize("guard", [guard for guard, scene in TRIED.items() if scene.followed])
async def test_a_change_on_a_server_with_a_standby_is_refused_by_it_alone(
    workshop: Workshop, followed: tuple[LocalCluster, Standby], guard: str
) -> None:
    async with make_workshop(followed[0], control=workshop) as there:
        followed[1].caught_up()
        await play(Place(there, followed[1]), guard, TRIED[guard])


def test_every_safeguard_has_a_scene() -> None:
    """Of each name that a verdict may have; that of a gate which judges in parts is only said where nothing can be read."""
    named = {guard for gate in GATES for guard in gate.guards}
    unread = {gate.name for gate in GATES if gate.parts} - SCENES.keys()
    assert unread == {"load", "replicas", "storage_budget", "write_performance", "blockers"}
    assert SCENES.keys() | TRIED.keys() | unread == named
    assert SCENES.keys() & TRIED.keys() == set()


async def test_what_one_gate_cannot_read_refuses_alone(workshop: Workshop) -> None:
    ctx = configured(await approved(workshop), throttle={"sample_seconds": 0.1})

    async def broken(_: GateContext) -> list[Verdict]:
        raise ServerError("no answer")

    for gate in GATES:
        gates = [replace(g, read=broken) if g is gate else g for g in GATES]
        refused = {v.guard: v.status for v in await evaluate(ctx, gates) if not v.allows}
        assert refused == {gate.name: Status.UNKNOWN}


async def test_nothing_is_said_under_a_name_without_a_scene(workshop: Workshop) -> None:
    ctx = await approved(workshop)

    async def more(_: GateContext) -> list[Verdict]:
        return [Verdict("load.heat", Status.PASS, "", "", "", "")]

    gates = [replace(g, read=more) if g.name == "load" else g for g in GATES]
    (refused,) = [v for v in await evaluate(ctx, gates) if not v.allows]
    assert (refused.guard, refused.status) == ("load", Status.UNKNOWN)
    assert "load.heat" in refused.evidence
