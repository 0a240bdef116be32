"""The throttle signals on real servers: what is measured, and that nothing unread counts as calm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from indexpilot_tui.engine.observe.pulse import Pulse, rates_between
from indexpilot_tui.engine.observe.signals import SignalReader
from indexpilot_tui.engine.observe.tables import hot_ratio, read_tables
from indexpilot_tui.engine.observe.writes import WriteTimer
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.errors import ConnectError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.engine.observe_room import Place, make_place, own_cluster
from tests.standby import Standby, standby_of


@pytest.fixture(scope="module", params=["18", "15"])
def signal_server(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with own_cluster(request.param, "signals", max_prepared_transactions="5") as cluster:
        yield cluster


@pytest.fixture
async def place(signal_server: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(signal_server) as made:
        yield made


@pytest.fixture(scope="module")
def standby(signal_server: LocalCluster) -> Iterator[Standby]:
    with psycopg.connect(signal_server.conninfo(), autocommit=True) as conn:
        conn.execute("select pg_create_physical_replication_slot('held', true)")
    try:
        with standby_of(signal_server) as made:
            yield made
    finally:
        with psycopg.connect(signal_server.conninfo(), autocommit=True) as conn:
            conn.execute("select pg_drop_replication_slot('held')")


async def test_rates_are_of_the_time_between_two_readings(place: Place) -> None:
    await place.run("create table t (id int primary key, a int, b text)")
    reader = SignalReader(cores=2)
    async with place.session() as session:
        first = await reader.read(session)
        assert first.rates.xacts is None
        assert first.rates.seconds == 0
        for i in range(50):
            await place.run(f"insert into t values ({i}, {i}, repeat('x', 1000))")
        await place.run("checkpoint")
        await asyncio.sleep(1.1)
        await place.run("select 1")  # a session hands its counts over at the end of a statement, once a second
        second = await reader.read(session)
    rates = second.rates
    assert rates.seconds > 0
    assert rates.xacts is not None
    assert rates.xacts * rates.seconds >= 50
    assert rates.wal_bytes is not None
    assert rates.wal_bytes * rates.seconds > 50_000
    assert rates.checkpoints_requested == 1
    assert rates.checkpoints_timed == 0
    assert second.replication is not None
    assert second.replication.unread == ()
    assert second.pulse.ms > 0


async def test_who_works_who_waits_and_what_is_left(place: Place) -> None:
    await place.run("create table t (a int)")
    others = [await place.connection() for _ in range(3)]
    holder, waiter, sleeper = others
    await holder.execute("begin")
    await holder.execute("lock table t in access exclusive mode")
    waiting = asyncio.create_task(waiter.execute("select * from t"))
    sleeping = asyncio.create_task(sleeper.execute("select pg_sleep(1.5)"))
    prepared = await place.connection()
    for statement in ("begin", "create table p (a int)", "prepare transaction 'left over'"):
        await prepared.execute(statement.encode())
    await asyncio.sleep(0.4)
    async with place.session(await place.role("mon", "pg_monitor")) as session:
        seen = await SignalReader(cores=2).read(session)
    pulse = seen.pulse
    assert pulse.active_backends == 2
    assert pulse.on_cpu == 0
    assert seen.cpu_share == 0
    assert pulse.lock_waiters == 1
    assert pulse.idle_in_transaction == 1
    assert seen.waits_by_kind == {"Lock": 1, "Timeout": 1}
    assert pulse.waits is not None
    assert {w.event for w in pulse.waits} == {"relation", "PgSleep"}
    # who waits for the lock is still being parsed, so has no query id yet
    assert [w.event for w in pulse.waits if w.queryid] == ["PgSleep"]
    assert pulse.prepared_xacts == 1
    assert pulse.oldest_prepared_s is not None
    assert 0.3 < pulse.oldest_prepared_s < 60
    assert pulse.oldest_xact_pid == holder.info.backend_pid
    assert pulse.client_backends >= 6
    assert seen.connections_left == pulse.max_connections - pulse.reserved_connections - pulse.client_backends
    await place.run("rollback prepared 'left over'")
    await holder.execute("rollback")
    await asyncio.gather(waiting, sleeping)
    for conn in (*others, prepared):
        await conn.close()


async def test_what_is_hidden_is_no_zero(place: Place) -> None:
    busy = await place.connection()
    sleeping = asyncio.create_task(busy.execute("select pg_sleep(0.5)"))
    async with place.session(await place.role("blind")) as session:
        seen = await SignalReader(cores=2).read(session)
    await sleeping
    await busy.close()
    pulse = seen.pulse
    assert pulse.hidden > 0
    assert (pulse.active_backends, pulse.on_cpu, pulse.lock_waiters, pulse.waits) == (None, None, None, None)
    assert (pulse.oldest_xact_s, pulse.oldest_snapshot_s) == (None, None)
    assert (seen.cpu_share, seen.waits_by_kind) == (None, None)


async def test_standbys_slots_and_the_archiver(place: Place, standby: Standby) -> None:
    await place.run("create table t (a int)", "insert into t select generate_series(1, 10000)")
    monitor = await place.role("mon", "pg_monitor")
    standby.caught_up()
    async with place.session(monitor) as session:
        seen = (await SignalReader().read(session)).replication
    assert seen is not None
    (behind,) = seen.standbys
    assert behind.name == "standby1"
    assert behind.visible
    assert behind.state == "streaming"
    assert behind.replay_bytes is not None
    assert behind.replay_bytes < 100_000
    assert seen.archiver is not None
    assert not seen.archiver.enabled
    (slot,) = seen.slots
    assert (slot.name, slot.kind, slot.active) == ("held", "physical", False)
    assert slot.retained_bytes is not None
    assert slot.retained_bytes > 0
    assert seen.max_wal_bytes
    blind = await place.role("blind")
    async with place.session(blind) as session:
        seen = (await SignalReader().read(session)).replication
    assert seen is not None
    assert [s.visible for s in seen.standbys] == [False]  # it is there, and how far behind cannot be seen
    target = Target(name="standby", environment="development", dsn=standby.conninfo(user=monitor))
    session = await connect(target, Purpose.MONITOR, Settings())
    try:
        own = await SignalReader().read(session)
    finally:
        await session.close()
    assert own.pulse.in_recovery
    assert own.replication is not None
    assert own.replication.replay_bytes is not None
    assert own.replication.replayed_s_ago is not None


async def test_a_lost_session_is_an_error_and_no_calm(place: Place) -> None:
    async with place.session() as session:
        reader = SignalReader()
        await reader.read(session)
        await place.admin.execute("select pg_terminate_backend(%s)", (session.facts.server_pid,))
        with pytest.raises(ConnectError):
            await reader.read(session)


async def test_tables_tell_hot_updates_and_writes(place: Place) -> None:
    await place.run(
        "create table t (id int primary key, a int, b int) with (fillfactor = 50)", "create index on t (b)",
        "insert into t select i, i, i from generate_series(1, 100) i",
    )  # fmt: skip
    async with place.session(await place.role("mon", "pg_monitor")) as session:
        await asyncio.sleep(1.1)
        await place.run("select 1")
        before = await read_tables(session)
        for _ in range(5):
            await place.run("update t set a = a + 1 where id <= 10", "update t set b = b + 1 where id = 50")
        await asyncio.sleep(1.1)
        await place.run("select 1")
        (oid,) = [oid for oid, t in before.items() if t.name == "t"]
        after = await read_tables(session, [oid])
    assert set(after) == {oid}
    assert hot_ratio(before, after) == pytest.approx(50 / 55)
    assert after[oid].index_writes - before[oid].index_writes == 5
    assert hot_ratio(after, after) is None


async def test_the_mean_time_of_writes(place: Place) -> None:
    await place.run("create table t (a int)", "insert into t values (0)", "/* app */ update t set a = 0", "select * from t")
    timer = WriteTimer()
    async with place.session() as session:
        assert (await timer.read(session)).mean_ms is None
        assert (await timer.read(session)).reason == "no row was written in the interval"
        for i in range(20):
            await place.run(f"insert into t values ({i})", "select count(*) from t")
        seen = await timer.read(session)
    assert seen.calls == 20
    assert seen.mean_ms is not None
    assert 0 < seen.mean_ms < 10


async def test_after_a_restart_there_is_no_rate(place: Place) -> None:
    async with place.session() as session:
        seen = (await SignalReader().read(session)).pulse

    def later(**changed: object) -> Pulse:
        return replace(seen, at=seen.at + timedelta(seconds=2), **changed)  # type: ignore[arg-type]

    assert rates_between(seen, later(commits=seen.commits + 10)).xacts == 5
    assert rates_between(seen, later(commits=0)).xacts is None  # reset
    restarted = later(started=seen.started + timedelta(seconds=1), commits=seen.commits + 10)
    assert rates_between(seen, restarted).xacts is None
    assert rates_between(seen, later(in_recovery=True)).wal_bytes is None
    assert rates_between(later(), seen).xacts is None
