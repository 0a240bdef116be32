"""The load gates: each figure at its limit, two samples, the cool-down, and a CPU that is the server's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.pulse import Wait
from indexpilot_tui.engine.safeguards import cpu
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import evaluate
from indexpilot_tui.engine.safeguards.load import Load, cooled, judge, load_of, measure
from indexpilot_tui.engine.safeguards.memory import Memory, Two
from indexpilot_tui.engine.safeguards.signals import look, newest, signals
from indexpilot_tui.settings.safeguards import Throttle
from indexpilot_tui.settings.validated import validated
from tests.engine.gates_room import approved, configured, context, printing, refusing, workshop
from tests.faults.workshop import Workshop

__all__ = ["workshop"]

NOW = datetime(2026, 6, 10, 3, tzinfo=UTC)
QUICK = {"enabled": True, "sample_seconds": 0.2, "cooldown_seconds": 0}


QUIET = Load(0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 7)


@pytest.mark.parametrize(
    ("figure", "guard", "key", "limit", "at"),
    [
        ("active_backends", "active_backends", "max_active_backends", 40, 40),
        ("oldest_xact_s", "oldest_transaction", "max_oldest_xact_seconds", 300, 300),
        ("lock_waiters", "lock_waiters", "max_lock_waiters", 5, 5),
        ("lwlock_waits", "lwlock_waits", "max_lwlock_waits", 10, 10),
        ("io_waits", "io_waits", "max_io_waits", 20, 20),
        ("transactions_per_s", "transactions", "max_transactions_per_second", 500, 500),
        ("wal_bytes_per_s", "wal", "max_wal_mb_per_second", 10, 10e6),
        ("requested_checkpoints", "checkpoints", "max_requested_checkpoints", 1, 1),
    ],
)
def test_each_figure_at_its_limit(figure: str, guard: str, key: str, limit: float, at: float) -> None:
    limits = validated(Throttle, {key: limit})
    passing = {v.guard: v for v in judge(replace(QUIET, **{figure: at}), limits)}[f"load.{guard}"]
    assert passing.status is Status.PASS
    assert passing.setting == f"production_safeguards.throttle.{key}"
    held = [v for v in judge(replace(QUIET, **{figure: at + 0.01 * max(1, at)}), limits) if not v.allows]
    assert [(v.guard, v.status) for v in held] == [(f"load.{guard}", Status.WAIT)]
    if key in ("max_lwlock_waits", "max_io_waits", "max_wal_mb_per_second", "max_requested_checkpoints"):
        unlimited = judge(replace(QUIET, **{figure: 1e12}), validated(Throttle, {key: None}))
        assert f"load.{guard}" not in {v.guard for v in unlimited}


def test_counters_that_were_reset_are_unknown_where_they_have_a_limit() -> None:
    reset = replace(QUIET, transactions_per_s=None, wal_bytes_per_s=None, requested_checkpoints=None)
    assert [v.guard for v in judge(reset, Throttle()) if not v.allows] == ["load.checkpoints"]
    all_limits = Throttle(max_transactions_per_second=1, max_wal_mb_per_second=1)
    refused = {v.guard: v.status for v in judge(reset, all_limits) if not v.allows}
    assert refused == dict.fromkeys(("load.transactions", "load.wal", "load.checkpoints"), Status.UNKNOWN)


async def test_the_higher_of_two_samples_counts(workshop: Workshop) -> None:
    ctx = await context(workshop)
    high = await look(ctx)
    high = replace(high, pulse=replace(high.pulse, active_backends=7, lock_waiters=0, waits=(Wait(None, "IO", "x", 3),)))
    low = await look(ctx)
    low = replace(low, pulse=replace(low.pulse, active_backends=1, lock_waiters=4, waits=(Wait(None, "LWLock", "y", 2),)))
    for two in (Two(high, low, 3), Two(low, high, 3)):
        found = load_of(two, "me")
        assert (found.active_backends, found.lock_waiters, found.io_waits, found.lwlock_waits) == (7, 4, 3, 2)
    blind = replace(low, pulse=replace(low.pulse, hidden=1))
    for two in (Two(blind, low, 3), Two(low, blind, 3)):
        with pytest.raises(ValueError, match="GRANT pg_monitor TO me"):
            load_of(two, "me")
    for level in ("active_backends", "oldest_xact_s", "lock_waiters", "on_cpu"):
        missing = replace(low, pulse=replace(low.pulse, **{level: None}))
        with pytest.raises(ValueError, match=level):
            load_of(Two(low, missing, 3), "me")


def held(guard: str, status: Status = Status.WAIT, retry_at: datetime | None = None) -> Verdict:
    return Verdict(guard, status, "", "", "", "it is hot", None, retry_at)


def test_a_refusal_stands_for_the_cool_down() -> None:
    refused = cooled([held("load.a")], [], NOW, 30)
    assert refused[0].retry_at == NOW + timedelta(seconds=30)
    better = [held("load.a", Status.PASS), held("load.b", Status.PASS)]
    during = cooled(better, refused, NOW + timedelta(seconds=29.9), 30)
    assert [v.status for v in during] == [Status.WAIT, Status.PASS]
    assert during[0].retry_at == NOW + timedelta(seconds=30)  # not longer and longer
    assert during[0].evidence == "cools down: it is hot"
    after = cooled(better, during, NOW + timedelta(seconds=30), 30)
    assert [v.status for v in after] == [Status.PASS, Status.PASS]
    again = cooled([held("load.a")], during, NOW + timedelta(seconds=10), 30)
    assert again[0].retry_at == NOW + timedelta(seconds=40)


@contextmanager
def busy(workshop: Workshop, statement: str, sessions: int = 1) -> Iterator[None]:
    """Sessions that run a statement over and over until the block ends."""
    stop = threading.Event()

    def run() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            while not stop.is_set():
                conn.execute(statement.encode())

    threads = [threading.Thread(target=run) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


async def test_real_load_is_seen_and_refuses_alone(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    assert await refusing(configured(ctx, throttle=QUICK)) == {}
    with busy(workshop, "select count(*) from generate_series(1, 30000000)", 3):
        await asyncio.sleep(0.5)
        found = await measure(configured(ctx, throttle=QUICK))
        assert found.active_backends >= 2
        assert found.on_cpu >= 1
        assert list(await refusing(configured(ctx, throttle=QUICK | {"max_active_backends": 1}))) == ["load.active_backends"]
        cores = configured(ctx, target={"cores": 1}, cpu_throttle={"cpu_threshold": 50, "cpu_cooldown": 0})
        assert list(await refusing(cores)) == ["cpu_throttle"]
    with busy(workshop, "select 1"):
        busy_rate = (await measure(configured(ctx, throttle=QUICK | {"sample_seconds": 1.5}))).transactions_per_s
    assert busy_rate is not None
    assert busy_rate > 50
    before = workshop.sql("select pg_current_wal_lsn() - '0/0'")[0][0]
    with busy(workshop, "update app.t set v = v where id < 2000"):
        await asyncio.sleep(0.3)
        tight = QUICK | {"max_wal_mb_per_second": 0.001}
        assert list(await refusing(configured(ctx, throttle=tight))) == ["load.wal"]
    assert workshop.sql("select pg_current_wal_lsn() - '0/0'")[0][0] > before


async def test_requested_checkpoints_are_pressure(workshop: Workshop) -> None:
    ctx = configured(await approved(workshop), throttle=QUICK | {"max_requested_checkpoints": 0})
    assert await refusing(ctx) == {}
    await asyncio.to_thread(workshop.sql, "checkpoint")  # counted between the sample held and the next
    later = replace(ctx, now=ctx.now + timedelta(seconds=1))
    assert list(await refusing(later)) == ["load.checkpoints"]


async def test_lock_waiters_and_our_own_sessions(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    workshop.blocker("lock table app.other in access exclusive mode")
    waiting = threading.Thread(target=lambda: _blocked(workshop))
    waiting.start()
    await asyncio.sleep(0.5)
    refused = await refusing(configured(ctx, throttle=QUICK | {"max_lock_waiters": 0}))
    assert list(refused) == ["load.lock_waiters"]
    for conn in workshop._opened:
        conn.rollback()
    waiting.join(10)


def _blocked(workshop: Workshop) -> None:
    workshop.sql("select count(*) from app.other")


async def test_the_second_sample_waits_and_a_held_one_serves(workshop: Workshop) -> None:
    ctx = configured(await context(workshop), throttle=QUICK | {"sample_seconds": 2})
    start = time.monotonic()
    await evaluate(ctx)
    assert time.monotonic() - start >= 2
    await asyncio.sleep(2)
    start = time.monotonic()
    await evaluate(replace(ctx, now=ctx.now + timedelta(seconds=1)))
    assert time.monotonic() - start < 1.8


async def test_all_gates_of_an_evaluation_share_one_measurement(workshop: Workshop) -> None:
    ctx = configured(await context(workshop), throttle=QUICK, target={"cores": 4})
    assert await signals(ctx) is await signals(ctx)
    assert await newest(ctx) is (await signals(ctx)).second
    assert await signals(ctx) is not await signals(replace(ctx, now=ctx.now + timedelta(seconds=1)))


async def test_without_a_judge_of_load_one_reading_is_enough(workshop: Workshop) -> None:
    ctx = configured(await context(workshop), throttle={"sample_seconds": 3})
    assert not ctx.settings.production_safeguards.throttle.enabled
    start = time.monotonic()
    assert await newest(ctx) is await newest(ctx)
    assert time.monotonic() - start < 2.8


async def test_a_reading_too_old_tells_nothing_about_now(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = configured(await context(workshop), throttle=QUICK)
    memory = Memory()
    monkeypatch.setattr("indexpilot_tui.engine.safeguards.memory.STALE_S", 0.3)
    await memory.first("x", lambda: look(ctx))
    await asyncio.sleep(0.4)
    two = await memory.two("x", 0.1, lambda: look(ctx))
    assert two.seconds < 0.3


@pytest.mark.parametrize(("used", "allowed"), [(0, True), (80, True), (80.01, False), (400, False)])
def test_the_edge_of_cpu(used: float, allowed: bool) -> None:
    assert cpu.judge(used, 80, "x").allows is allowed


async def test_cpu_comes_from_a_metric_or_from_cores_and_production_must_know(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    base: dict[str, Any] = {"backup": {"enabled": False}, "environment": "production"}
    room = {"disk_capacity_mb": 1e9}
    unknown = await refusing(configured(ctx, target=room, **base))
    assert {k: v.status for k, v in unknown.items()} == {"cpu_throttle": Status.UNKNOWN}
    assert "production_safeguards.cpu_throttle.metric" in unknown["cpu_throttle"].evidence
    assert await refusing(configured(ctx, target=room | {"cores": 64}, **base)) == {}
    assert await refusing(configured(ctx, target=room, cpu_throttle={"enabled": False}, **base)) == {}
    for printed, status in (
        ('{"cpu_pct": 80}', None), ('{"cpu_pct": 80.5}', Status.WAIT), ('{"cpu_pct": null}', Status.UNKNOWN),
        ('{"cpu_pct": -1}', Status.UNKNOWN), ('{"cpu_pct": NaN}', Status.UNKNOWN), ("", Status.UNKNOWN), ("7", Status.UNKNOWN),
    ):  # fmt: skip
        tried = configured(ctx, metrics={"host": printing(printed)}, cpu_throttle={"metric": "host.cpu_pct"})
        refused = await refusing(tried)
        assert {k: v.status for k, v in refused.items()} == ({} if status is None else {"cpu_throttle": status}), printed
        assert await refusing(replace(tried, rollback=True)) == {} or status is Status.UNKNOWN


async def test_a_hot_cpu_is_not_believed_to_be_cold_at_once(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    hot = configured(ctx, metrics={"h": printing("95")}, cpu_throttle={"metric": "h"})
    first = await evaluate(hot)
    cold = configured(ctx, metrics={"h": printing("5")}, cpu_throttle={"metric": "h"})

    def later(seconds: float) -> GateContext:
        return replace(cold, previous=tuple(first), now=ctx.now + timedelta(seconds=seconds))

    assert list(await refusing(later(29))) == ["cpu_throttle"]
    assert await refusing(later(30)) == {}
