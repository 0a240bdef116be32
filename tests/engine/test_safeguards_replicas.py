"""Standbys and slots: judged by values, and on a server with a real standby that pauses, goes away and is read from."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.observe.replication import Slot, Standby
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.engine.safeguards.replicas import (
    Readers,
    judge_lag,
    judge_readers,
    judge_slots,
    judge_synchronous,
    lag_of,
    needed,
)
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.safeguards import Replicas
from indexpilot_tui.settings.validated import plain, validated
from tests.engine.gates_room import approved, configured, context, plan_of, refusing, verdict
from tests.faults.workshop import Workshop, make_workshop
from tests.standby import Standby as RealStandby
from tests.standby import standby_of

LIMITS = Replicas(max_replay_lag_seconds=30, max_retained_wal_mb=100)


def standby(**changed: Any) -> Standby:
    fine = Standby("one", "", "streaming", "async", 0.0, 0.0, 0.0, None, None, 0.1, True)
    return replace(fine, **changed)


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ({}, 0),  # nothing to replay
        ({"replay_s": 2.5, "replay_bytes": 10.0}, 2.5),
        ({"replay_s": 2.5}, 0),  # the lag of its last WAL, which it has replayed
        ({"replay_bytes": 10.0, "reply_s": 44.0}, 44),  # it has stopped to answer
        ({"replay_bytes": 10.0, "replay_s": 0.1, "reply_s": 44.0}, 44),
        ({"replay_bytes": None, "flush_s": 3.0, "flush_bytes": 7.0}, 3),  # a receiver that replays nothing
        ({"replay_bytes": None, "flush_bytes": None, "reply_s": 2.0}, 2),
        ({"replay_bytes": None}, 0),
    ],
)
def test_how_far_behind(changed: dict[str, Any], seconds: float) -> None:
    assert lag_of(standby(**changed)) == seconds


@pytest.mark.parametrize("changed", [{"visible": False}, {"replay_bytes": 10.0, "reply_s": None}])
def test_a_lag_that_cannot_be_told_is_no_zero(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="how far one is behind"):
        judge_lag((standby(**changed),), LIMITS)


def test_the_furthest_behind_at_its_limit() -> None:
    assert judge_lag((), LIMITS) == []
    assert judge_lag((standby(state="backup", replay_s=900.0),), LIMITS) == []
    assert judge_lag((standby(replay_s=30.0, replay_bytes=1.0), standby()), LIMITS)[0].status is Status.PASS
    late = judge_lag((standby(), standby(name="two", replay_s=30.01, replay_bytes=1.0)), LIMITS)[0]
    assert late.status is Status.WAIT
    assert late.evidence.startswith("two is 30 s behind")


def slot(**changed: Any) -> Slot:
    return replace(Slot("s", "physical", False, "reserved", 0.0, None, None), **changed)


def test_slots_at_their_limit() -> None:
    assert judge_slots((), LIMITS) == []
    assert judge_slots((slot(retained_bytes=100e6),), LIMITS)[0].status is Status.PASS
    assert judge_slots((slot(retained_bytes=100e6 + 1),), LIMITS)[0].status is Status.BLOCK
    assert judge_slots((slot(retained_bytes=9e9, active=True),), LIMITS)[0].status is Status.PASS  # somebody is reading it
    for lost in ("unreserved", "lost"):
        assert judge_slots((slot(), slot(wal_status=lost, active=True)), LIMITS)[0].status is Status.BLOCK


@pytest.mark.parametrize(
    ("names", "count"),
    [("", 0), ("  ", 0), ("one", 1), ("one, two", 1), ("*", 1), ("FIRST 2 (a, b, c)", 2), ("any 3(a,b,c)", 3), ("2 (a, b)", 2),
     ('"any 2 (x"', 1)],
)  # fmt: skip
def test_how_many_a_commit_waits_for(names: str, count: int) -> None:
    assert needed(names) == count


def test_synchronous_standbys_must_stream() -> None:
    sync, quorum = standby(sync_state="sync"), standby(sync_state="quorum")
    assert judge_synchronous("", ()) == []
    assert judge_synchronous("one", (sync,))[0].allows
    assert judge_synchronous("any 2 (*)", (quorum, quorum))[0].allows
    for standbys in ((), (standby(),), (standby(sync_state="sync", state="catchup"),), (standby(sync_state="potential"),)):
        refused = judge_synchronous("one", standbys)[0]
        assert (refused.status, "commits hang" in refused.evidence) == (Status.BLOCK, True)
    assert not judge_synchronous("any 2 (*)", (quorum,))[0].allows


def test_readers_on_standbys_at_their_limit() -> None:
    assert judge_readers([Readers("a", 1, 30.0, "pid 5")], [], 30).status is Status.PASS
    old = judge_readers([Readers("a", 1, 30.01, "pid 5"), Readers("b")], [], 30)
    assert (old.status, "pid 5 uses the table on a" in old.evidence) == (Status.WAIT, True)
    blind = judge_readers([Readers("a", unseen="refused"), Readers("b", 2, 1.0, "pid 6")], [], 30)
    assert (blind.status, blind.measured) == (Status.PASS, "2 sessions")
    assert "NOT looked into: a (refused)" in blind.evidence
    assert judge_readers([], ["one"], 30).measured == "not measured"


@pytest.fixture(scope="module")
def primary() -> Iterator[LocalCluster]:
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off", "wal_receiver_status_interval": "1s"}
    cluster = asyncio.run(LocalCluster.start("replicas", settings=settings))
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture(scope="module")
def follower(primary: LocalCluster) -> Iterator[RealStandby]:
    with standby_of(primary) as made:
        yield made


@pytest.fixture
async def workshop(primary: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(primary) as made:
        yield made


async def now(ctx: GateContext) -> GateContext:
    """The same once more, at this moment."""
    return replace(ctx, now=await database_now(ctx.session), memory=Memory())


async def until(ctx: GateContext, condition: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        refused = await refusing(await now(ctx))
        if condition(refused):
            return refused
        assert time.monotonic() < end, refused
        await asyncio.sleep(0.2)


async def test_without_standbys_it_passes(workshop: Workshop) -> None:
    v = await verdict(await context(workshop, await plan_of(workshop)), "replicas")
    assert (v.status, v.evidence) == (Status.PASS, "no standby is connected")
    off = configured(await context(workshop), replicas={"enabled": False})
    assert "switched off" in (await verdict(off, "replicas")).evidence


async def test_a_standby_that_is_behind_holds_a_change_and_nothing_else_does(
    workshop: Workshop, follower: RealStandby
) -> None:
    follower.caught_up()
    ctx = configured(await approved(workshop), replicas={"max_replay_lag_seconds": 1.5})
    await until(ctx, lambda refused: refused == {})
    with follower.connect() as conn:
        conn.execute("select pg_wal_replay_pause()")
        try:
            for _ in range(4):
                workshop.sql("update app.t set v = v where id = 1")
                await asyncio.sleep(0.6)
            refused = await until(ctx, bool)
        finally:
            conn.execute("select pg_wal_replay_resume()")
    assert {k: v.status for k, v in refused.items()} == {"replicas.lag": Status.WAIT}
    assert refused["replicas.lag"].setting == "production_safeguards.replicas.max_replay_lag_seconds"
    follower.caught_up()
    await until(ctx, lambda refused: refused == {})


async def test_a_standby_that_stops_to_answer_is_behind(workshop: Workshop, follower: RealStandby) -> None:
    """It was idle when it stopped: the server goes on to show its last lag, a millisecond, however much is written."""
    follower.caught_up()
    ctx = configured(await approved(workshop), replicas={"max_replay_lag_seconds": 3})
    await until(ctx, lambda refused: refused == {})
    stopped = children(follower.process.pid)
    for pid in stopped:
        signal_to(pid, signal.SIGSTOP)
    try:
        workshop.sql("update app.t set v = v where id = 1")
        refused = await until(ctx, bool)
    finally:
        for pid in stopped:
            signal_to(pid, signal.SIGCONT)
    assert {k: v.status for k, v in refused.items()} == {"replicas.lag": Status.WAIT}
    await until(ctx, lambda refused: refused == {})


def children(pid: int) -> list[int]:
    return [pid, *(int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def signal_to(pid: int, number: int) -> None:
    os.kill(pid, number)


async def test_a_slot_that_nobody_reads(workshop: Workshop) -> None:
    ctx = configured(await approved(workshop), replicas={"max_retained_wal_mb": 0.2})
    assert await refusing(ctx) == {}
    workshop.sql("select pg_create_physical_replication_slot('forgotten', true)")
    try:
        workshop.sql("update app.t set v = v")
        refused = await refusing(await now(ctx))
    finally:
        workshop.sql("select pg_drop_replication_slot('forgotten')")
    assert {k: v.status for k, v in refused.items()} == {"replicas.slots": Status.BLOCK}
    assert "forgotten" in refused["replicas.slots"].evidence


async def test_a_synchronous_standby_that_is_not_there(workshop: Workshop, follower: RealStandby) -> None:
    follower.caught_up()
    ctx = await approved(workshop)

    def named(names: str) -> None:
        with psycopg.connect(workshop.cluster.conninfo(), autocommit=True) as admin:
            admin.execute(f"alter system set synchronous_standby_names = '{names}'".encode())
            admin.execute("select pg_reload_conf()")

    try:
        named("standby1")
        time.sleep(0.5)
        v = await until_verdict(ctx, "replicas.synchronous")
        assert (v.status, v.measured) == (Status.PASS, "1 streaming")
        named("absent")
        time.sleep(0.5)
        refused = await refusing(await now(ctx))
        assert {k: v.status for k, v in refused.items()} == {"replicas.synchronous": Status.BLOCK}
    finally:
        named("")
        time.sleep(0.3)


async def until_verdict(ctx: GateContext, guard: str) -> Any:
    for _ in range(50):
        v = await verdict(await now(ctx), guard)
        if v.allows:
            return v
        await asyncio.sleep(0.1)
    return v


def with_standby(workshop: Workshop, follower: RealStandby, ctx: GateContext, *, dsn: str | None = None) -> GateContext:
    data = plain(ctx.settings)
    data["targets"] = {
        "standby": {"name": "standby", "environment": "development",
                    "dsn": dsn or follower.conninfo(workshop.dbname, "w_operator")},
    }  # fmt: skip
    data["production_safeguards"]["blockers"]["max_writer_age_seconds"] = 1
    target = replace(ctx.target, standbys=("standby",))
    return replace(ctx, settings=validated(Settings, data), target=target)


async def test_a_reader_on_a_standby_holds_a_drop_and_not_a_build(workshop: Workshop, follower: RealStandby) -> None:
    workshop.sql("create index spare on app.t (w)")
    follower.caught_up()
    drop = with_standby(workshop, follower, await context(workshop, await plan_of(workshop, "drop index app.spare")))
    build = with_standby(workshop, follower, await context(workshop, await plan_of(workshop)))
    v = await verdict(drop, "replicas.sessions")
    assert (v.status, v.measured) == (Status.PASS, "0 sessions")
    with psycopg.connect(follower.conninfo(workshop.dbname)) as reader:
        reader.execute("select count(*) from app.t")
        time.sleep(1.2)
        v = await verdict(await now(drop), "replicas.sessions")
        assert v.status is Status.WAIT
        assert f"pid {reader.info.backend_pid} uses the table on standby" in v.evidence
        assert "replicas.sessions" not in {v.guard for v in [await verdict(await now(build), "replicas.lag")]}
        assert not any(g.startswith("replicas") for g in await refusing(await now(build)))


async def test_a_standby_that_cannot_be_looked_into_is_a_warning(workshop: Workshop, follower: RealStandby) -> None:
    workshop.sql("create index spare on app.t (w)")
    follower.caught_up()
    drop = await context(workshop, await plan_of(workshop, "drop index app.spare"))
    v = await verdict(drop, "replicas.sessions")
    assert v.allows
    assert "NOT looked into: standby1" in v.evidence
    away = with_standby(workshop, follower, drop, dsn="host=/nowhere dbname=x")
    v = await verdict(await now(away), "replicas.sessions")
    assert v.allows
    assert "NOT looked into: standby (" in v.evidence
    assert "1 more that are connected" in v.evidence
    itself = with_standby(workshop, follower, drop, dsn=workshop.cluster.conninfo(workshop.dbname, "w_operator"))
    assert "it is no standby of this server" in (await verdict(await now(itself), "replicas.sessions")).evidence


async def test_what_is_hidden_of_a_standby_is_unknown(workshop: Workshop, follower: RealStandby) -> None:
    from indexpilot_tui.engine.postgres.session import Purpose, connect
    from tests.conftest import socket_target

    workshop.sql("do $$ begin create role w_blind login; exception when duplicate_object then null; end $$")
    session = await connect(socket_target(workshop.cluster, workshop.dbname, "w_blind"), Purpose.MONITOR, Settings())
    try:
        v = await verdict(await context(workshop, session=session, journal=None), "replicas")
    finally:
        await session.close()
    assert v.status is Status.UNKNOWN
    assert "hidden" in v.evidence
