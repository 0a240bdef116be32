"""The observing engine while its server is restarted, promoted away, reset, slow, closed to it or silent: it says what it
knows and how old that is, comes back by itself, and no rate goes below zero."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.observe import observer
from indexpilot_tui.engine.observe.ask import Question
from indexpilot_tui.engine.observe.model import Observation, View
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings, Target
from tests.engine.observe_room import Place, make_place
from tests.faults.proxy import Proxy
from tests.servers import TlsServer, start_tls_server

QUICK = Settings(observe=Observe(statement_timeout_ms=500, server_ms_per_minute_budget=1e6))
PATIENCE_S = 20.0


@asynccontextmanager
async def looking(target: Target) -> AsyncIterator[Engine]:
    engine = await Engine.open(target, QUICK)
    try:
        yield engine
    finally:
        await engine.close()


def sound(seen: Observation) -> Observation:
    """No figure below zero or beyond what a server can do, over any window."""
    assert seen.book is not None or not seen.hotspots.available
    every = [seen.hotspots, *(seen.book.hotspots(View(w)) for w in (60, 3600) if seen.book)]
    for item in (i for spots in every for i in spots.items):
        numbers = (
            item.ms_per_s,
            item.calls_per_s,
            item.mean_ms,
            item.rows_per_call,
            item.share,
            item.stddev_ms,
            item.wal_bytes_per_s,
        )
        assert all(n is None or 0 <= n < 1e9 for n in numbers), item
        assert item.share <= 1.0 + 1e-9
    signals = seen.signals
    if signals is not None:
        rates = signals.rates
        assert all(n is None or n >= 0 for n in (rates.xacts, rates.wal_bytes, rates.temp_bytes, rates.deadlocks))
    return seen


async def until_good(engine: Engine) -> tuple[Observation, float]:
    """Look until it works again, as the console does; how long that took."""
    began = time.monotonic()
    while True:
        seen = sound(await asyncio.wait_for(engine.observe(), 10))
        if not seen.error:
            return seen, time.monotonic() - began
        assert time.monotonic() - began < PATIENCE_S, seen.error
        await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    """One of its own: it is stopped and started."""
    made = start_tls_server()
    with made.connect() as conn:
        conn.execute("create extension pg_stat_statements")
        conn.execute("create table hot (a int)")
    made.add_login("watcher", "watch-secret")
    with made.connect() as conn:
        conn.execute("grant pg_monitor to watcher")
    yield made
    made.remove()


def target_of(server: TlsServer, port: int | None = None, **extra: str) -> Target:
    return Target(name="pulled", dsn=server.conninfo("watcher", port=str(port or server.port), **extra))


def work(server: TlsServer, times: int = 50) -> None:
    with server.connect() as conn:
        for _ in range(times):
            conn.execute("select count(*) from hot")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart(server: TlsServer, mode: str) -> None:
    async with looking(target_of(server)) as engine:
        work(server)
        before = sound(await engine.observe())
        assert before.error == ""
        server.stop(mode)
        away = sound(await asyncio.wait_for(engine.observe(), 10))
        assert away.error != ""
        assert away.at == before.at  # what it knew, with the time when it was known
        server.start_again()
        work(server)
        again, _ = await until_good(engine)
        assert "restarted at" in again.hotspots.epoch_note
        assert again.at > before.at
        work(server)
        assert any("from hot" in i.query for i in sound(await engine.observe()).hotspots.items)


async def test_a_silent_network_and_one_that_refuses(server: TlsServer) -> None:
    with Proxy(server.port) as proxy:
        async with looking(target_of(server, proxy.port, connect_timeout="2")) as engine:
            before = await engine.observe()
            proxy.silent = True
            proxy.swallow()
            began = time.monotonic()
            away = await asyncio.wait_for(engine.observe(), 10)
            assert "silent" in away.error
            assert time.monotonic() - began < 7  # statement_timeout and the grace behind it
            assert away.at == before.at
            still = await asyncio.wait_for(engine.observe(), 10)  # nobody answers a new connection either
            assert still.error != ""
            proxy.silent, proxy.refusing = False, True
            assert (await engine.observe()).error != ""
            proxy.refusing = False
            again, took = await until_good(engine)
            assert took < 5
            assert again.hotspots.epoch_note == before.hotspots.epoch_note  # the same server: nothing began anew
            assert engine.mark() is not None


async def test_a_standby_takes_over(server: TlsServer) -> None:
    standby = server.standby()
    try:
        both = f"{server.port},{standby.port}"
        target = Target(name="pair", dsn=server.conninfo("watcher", host="localhost,localhost", hostaddr="127.0.0.1,127.0.0.1", port=both, target_session_attrs="read-write"))  # fmt: skip
        async with looking(target) as engine, looking(target_of(standby)) as beside:
            work(server)
            sound(await engine.observe())
            assert (await beside.observe()).error == ""
            assert beside.facts.in_recovery
            server.stop("immediate")
            assert (await engine.observe()).error != ""
            with standby.connect() as conn:
                conn.execute("select pg_promote(true, 60)")
            again, _ = await until_good(engine)
            assert engine.facts.port == standby.port
            assert again.hotspots.epoch_note.startswith("failover: the primary at")
            work(standby)
            items = sound(await engine.observe()).hotspots.items
            assert any("from hot" in i.query for i in items)
            await beside.observe()
            await until_good(beside)
            assert not beside.facts.in_recovery  # its session outlived the promotion, what it knows does not
    finally:
        standby.remove()
        if server.process.poll() is not None:
            server.start_again()


@pytest.fixture
async def place(cluster18: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(cluster18) as made:
        yield made


async def test_resets_in_a_row(place: Place) -> None:
    async with looking(place.target()) as engine:
        for _ in range(3):
            for _ in range(20):
                await place.run("select count(*) from pg_stat_user_tables")
            sound(await engine.observe())
            await place.run("select pg_stat_statements_reset()", "select pg_stat_reset()")
            seen = sound(await engine.observe())
        assert "reset" in seen.hotspots.epoch_note
        assert seen.error == ""


async def test_a_question_that_takes_too_long_leaves_the_others_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with looking(place.target()) as engine:
        before = await engine.observe()
        with monkeypatch.context() as patched:
            slow = Question("pulse", "select pg_catalog.pg_sleep(5)")
            patched.setattr(observer, "pulse_question", lambda *_: slow)
            seen = await asyncio.wait_for(engine.observe(), 5)
            assert any("statement timeout" in text for text in seen.refused)
            assert seen.activity.active_backends is None  # not read is no zero
            assert seen.signals is None
            assert seen.health is before.health
        engine.watcher._asker.forget()  # as if its pause had passed
        again = sound(await engine.observe())
        assert again.refused == ()
        assert again.activity.active_backends is not None


async def test_rights_that_are_taken_away_and_given_back(place: Place) -> None:
    monitor = await place.role("mon", "pg_monitor")
    async with looking(place.target(monitor)) as engine:
        assert (await engine.observe()).refused == ()
        await place.run(f"revoke pg_monitor from {monitor}")
        other: psycopg.AsyncConnection[tuple[object, ...]] = await place.connection()
        engine.watcher.hurry()
        blind = sound(await engine.observe())
        assert blind.error == ""
        assert blind.activity.active_backends is None
        assert any(f'GRANT pg_monitor TO "{monitor}"' in text for text in blind.refused)
        await place.run(f"grant pg_monitor to {monitor}")
        engine.watcher.hurry()
        seen = sound(await engine.observe())
        assert seen.activity.active_backends is not None
        await other.close()
