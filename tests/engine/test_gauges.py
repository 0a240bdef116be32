"""The raw signals on real servers: each with its limit, its age and its past, and nothing unread looks calm."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.gauges.board import Board
from indexpilot_tui.engine.model.gauge import Gauge, Standing
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target
from tests.engine.observe_room import SETTINGS, Place, make_place, own_cluster
from tests.standby import standby_of
from tests.tui.frozen import facts

OUTSIDE = ("cpu", "disk")


@pytest.fixture(scope="module", params=["18", "15"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with own_cluster(request.param, "gauges", track_io_timing="on") as cluster:
        yield cluster


@pytest.fixture
async def place(server: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(server) as made:
        yield made


def by_key(gauges: tuple[Gauge, ...]) -> dict[str, Gauge]:
    found = {gauge.key: gauge for gauge in gauges}
    assert len(found) == len(gauges)
    return found


def board(place: Place, settings: Settings = SETTINGS, **target: object) -> Board:
    return Board(place.target(**target), settings, Memory())


async def seen_by(place: Place, user: str, *, seconds: float, settings: Settings = SETTINGS) -> dict[str, Gauge]:
    """The signals after some refreshes of a login's own."""
    made, watcher = board(place, settings), Watcher(settings, 2)
    async with place.session(user, settings) as session:
        end = time.monotonic() + seconds
        while True:
            made.take(await watcher.refresh(session))
            if time.monotonic() > end:
                return by_key(await made.read(session.facts))
            await place.run("insert into t select i, i from generate_series(1, 50) i", "update t set b = b + 1 where a < 20")
            await asyncio.sleep(0.3)


async def test_everything_is_measured_with_its_limit_and_its_past(place: Place) -> None:
    await place.run("create table t (a int, b int) with (fillfactor = 30)")
    user = await place.role("mon", "pg_monitor")
    throttle = replace(SETTINGS.production_safeguards.throttle, max_wal_mb_per_second=50.0)
    guards = replace(SETTINGS.production_safeguards, throttle=throttle)
    eager = replace(SETTINGS.observe, health_interval_seconds=5.0)
    settings = replace(SETTINGS, production_safeguards=guards, observe=eager)
    seen = await seen_by(place, user, seconds=12.0, settings=settings)
    unknown = {key: gauge.why for key, gauge in seen.items() if gauge.standing(0.0) is Standing.UNKNOWN}
    # HOT is told between two readings of the tables, which come every 30 s
    assert set(unknown) - {"hot"} == set(OUTSIDE)
    assert all("cannot be seen from SQL" in unknown[key] for key in OUTSIDE)
    for key in ("active", "max_lock_waiters", "wal", "latency", "connections", "checkpoints"):
        assert seen[key].standing(0.0) is Standing.WITHIN, key
    assert seen["wal"].limit == 50e6
    assert (seen["wal"].value or 0) > 100
    assert max(seen["xacts"].trend) > 1  # a session hands its counts over once a second
    assert 0 < (seen["latency"].value or 0) < 50
    assert seen["on_cpu"].limit == 2 * 0.8
    assert "of 2 cores" in seen["on_cpu"].evidence
    assert len(seen["xacts"].trend) >= 3
    assert seen["standbys"].words == seen["slots"].words == "none"
    assert seen["archiver"].words == "off"
    assert seen["archiver"].standing(0.0) is Standing.PLAIN
    assert (seen["xacts"].at or datetime.min.replace(tzinfo=UTC)) > datetime(2026, 1, 1, tzinfo=UTC)


async def test_what_a_login_may_not_see_is_unknown_with_the_grant(place: Place) -> None:
    await place.run("create table t (a int, b int)")
    other = await place.connection()
    blind = await place.role("blind")
    seen = await seen_by(place, blind, seconds=1.0)
    await other.close()
    for key in ("active", "on_cpu", "oldest_xact", "snapshot", "idle", "max_lock_waiters", "max_io_waits", "waits"):
        assert seen[key].standing(0.0) is Standing.UNKNOWN, key
        assert f'GRANT pg_monitor TO "{blind}"'.replace('"', "") in seen[key].why.replace('"', ""), key
    assert seen["xacts"].standing(0.0) is Standing.PLAIN


async def test_without_statements_or_timing_it_is_said_why(server: LocalCluster) -> None:
    async with make_place(server, extension_schema=None) as place:
        await place.run("create table t (a int, b int)", f"alter database {place.dbname} set track_io_timing = off")
        seen = await seen_by(place, await place.role("mon", "pg_monitor"), seconds=0.5)
    assert "CREATE EXTENSION pg_stat_statements" in seen["latency"].why
    assert "track_io_timing is off" in seen["block_read"].why


async def test_standbys_and_slots(server: LocalCluster, place: Place) -> None:
    await place.run("create table t (a int, b int)")
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute("select pg_create_physical_replication_slot('held', true)")
    try:
        with standby_of(server) as standby:
            await place.run("checkpoint")  # flushes what nobody waits for
            standby.caught_up()
            seen = await seen_by(place, await place.role("mon", "pg_monitor"), seconds=1.0)
            lag = next(gauge for key, gauge in seen.items() if key.startswith("lag standby1"))
            assert lag.standing(0.0) is Standing.WITHIN
            assert lag.limit == 30
            assert "streaming" in lag.evidence
            held = seen["slot held"]
            assert held.standing(0.0) is Standing.WITHIN
            assert "nobody reads it" in held.evidence
            assert (held.value or 0) > 0
            made, watcher = board(place), Watcher(SETTINGS)
            target = Target(name="standby", environment="development", dsn=standby.conninfo(place.dbname))
            session = await connect(target, Purpose.MONITOR, SETTINGS)
            try:
                made.take(await watcher.refresh(session))
                own = by_key(await made.read(session.facts))
            finally:
                await session.close()
            assert own["own_lag"].standing(0.0) is Standing.WITHIN
            assert own["wal"].evidence == "replayed here"
            blind = await seen_by(place, await place.role("blind"), seconds=1.0)
            hidden = next(gauge for key, gauge in blind.items() if key.startswith("lag standby1"))
            assert hidden.standing(0.0) is Standing.UNKNOWN
            assert "GRANT pg_monitor" in hidden.why
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            conn.execute("select pg_drop_replication_slot('held')")


async def test_the_facade_tells_of_them_and_of_a_server_that_went(place: Place) -> None:
    engine = await Engine.open(place.target(), SETTINGS)
    try:
        first = by_key(await engine.gauges())
        assert {gauge.standing(0.0) for gauge in first.values()} == {Standing.UNKNOWN}  # nothing was read yet
        await engine.observe()
        assert by_key(await engine.gauges())["connections"].standing(0.0) is Standing.WITHIN
    finally:
        await engine.close()


async def outside(settings: dict[str, object], **target: object) -> tuple[dict[str, Gauge], Board]:
    made = Board(validated(Target, {"name": "orders"} | target), validated(Settings, settings), Memory())
    return by_key(await made.read(facts())), made


async def test_metrics_with_their_limits(tmp_path: Path) -> None:
    def printing(text: str) -> dict[str, object]:
        return {"command": [sys.executable, "-c", f"print({text!r})"], "max_age_seconds": 60}

    guards = {
        "cpu_throttle": {"metric": "node.cpu"}, "disk": {"metric": "space"}, "backup": {"metric": "saved"},
    }  # fmt: skip
    sources = {
        "node": printing('{"cpu": 91}'), "space": printing('{"free_bytes": 5e9, "total_bytes": 100e9}'),
        "saved": {"url": "http://127.0.0.1:9/none"}, "queue": printing("17"),
    }  # fmt: skip
    seen, made = await outside({"production_safeguards": guards, "metrics": sources})
    assert (seen["cpu"].value, seen["cpu"].limit, seen["cpu"].standing(0.0)) == (91, 80, Standing.OVER)
    assert (seen["disk"].value, seen["disk"].limit, seen["disk"].standing(0.0)) == (5e9, 10e9, Standing.OVER)
    assert (seen["metric queue"].value, seen["metric queue"].standing(0.0)) == (17, Standing.PLAIN)
    assert seen["backup"].standing(0.0) is Standing.UNKNOWN
    assert "cannot be reached" in seen["backup"].why
    assert "metric node" not in seen
    assert made.memory.metrics(made.settings, made.target).age("node") is not None


async def test_disk_from_the_capacity_is_what_the_gate_has_read(cluster18: LocalCluster) -> None:
    target = socket_target(cluster18, "postgres", disk_capacity_mb=1_000_000)
    engine = await Engine.open(target, SETTINGS)
    try:
        await engine.observe()
        assert "has not asked" in by_key(await engine.gauges())["disk"].why
        await engine.throttle()
        free = by_key(await engine.gauges())["disk"]
        assert free.standing(0.0) is Standing.WITHIN
        assert 0.9e12 < (free.value or 0) < 1e12
    finally:
        await engine.close()


def test_only_what_is_measured_now_and_has_a_limit_is_good() -> None:
    def standing(age: float | None = 1.0, **fields: object) -> Standing:
        return Gauge("k", "g", "n", **fields).standing(age)  # type: ignore[arg-type]

    assert standing(value=1.0, limit=1.0) is Standing.WITHIN
    assert standing(value=1.1, limit=1.0) is Standing.OVER
    assert standing(value=0.9, limit=1.0, least=True) is Standing.OVER
    assert standing(value=1.0) is Standing.PLAIN
    assert standing(words="none") is Standing.PLAIN
    assert standing(words="failing", bad=True) is Standing.OVER
    assert standing() is Standing.UNKNOWN
    assert standing(value=0.0, limit=1.0, why="hidden") is Standing.UNKNOWN
    assert standing(None, value=0.0, limit=1.0) is Standing.UNKNOWN
    assert standing(121.0, value=0.0, limit=1.0) is Standing.UNKNOWN
