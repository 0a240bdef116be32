"""`rate_limiter.query`: what is sent is counted, who looks waits, who guards does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.observe.signals import SignalReader
from indexpilot_tui.engine.postgres.foresight import Foresight
from indexpilot_tui.engine.postgres.query_rate import QueryRate, rate_of
from indexpilot_tui.engine.postgres.session import Purpose, SentStatement, Session, connect
from indexpilot_tui.engine.safeguards import query_rate
from indexpilot_tui.engine.safeguards.gates import evaluate
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target
from tests.engine.gates_room import context, workshop
from tests.faults.workshop import OPERATOR, Workshop

__all__ = ["workshop"]


def limited(most: int, seconds: int) -> Settings:
    return validated(Settings, {"rate_limiter": {"query": {"max_requests": most, "time_window_seconds": seconds}}})


async def test_the_window_slides_and_its_limit_is_a_limit() -> None:
    rate = QueryRate(3, 0.5)
    for used in range(3):
        assert rate.free_in(1) == 0
        assert await rate.turn(1, wait=True) < 0.05
        assert rate.used == used + 1
    assert 0 < rate.free_in(1) <= 0.5
    assert await rate.turn(1, wait=True) >= 0.4  # until the first has left
    assert rate.used <= 3
    assert await rate.turn(5, wait=False) < 0.05  # counted, not waited for
    assert rate.used >= 6


async def test_more_than_the_limit_at_once_wait_for_an_empty_window() -> None:
    rate = QueryRate(3, 0.3)
    assert await rate.turn(10, wait=True) < 0.05
    assert rate.used == 10
    assert await rate.turn(10, wait=True) >= 0.25


@asynccontextmanager
async def session(workshop: Workshop, purpose: Purpose, settings: Settings) -> AsyncIterator[tuple[Session, list[str]]]:
    log: list[str] = []

    def sink(sent: SentStatement) -> None:
        log.append(sent.text)

    target = socket_target(workshop.cluster, workshop.dbname, OPERATOR)
    opened = await connect(target, purpose, settings, sink=sink)
    try:
        yield opened, log
    finally:
        await opened.close()


async def test_a_console_waits_and_says_so_and_an_observer_does_not(workshop: Workshop) -> None:
    settings = limited(12, 5)
    begun = time.monotonic()
    async with session(workshop, Purpose.MONITOR, settings) as (monitor, log):
        assert monitor.rate is not None
        while monitor.rate.free_in(1) == 0:
            await monitor.value("select 1")
        start = time.monotonic()
        async with session(workshop, Purpose.OBSERVER, settings) as (observer, _):
            assert observer.rate is monitor.rate
            for _ in range(20):
                await observer.value("select 1")
        assert time.monotonic() - start < 4
        await monitor.value("select 2")
        assert time.monotonic() - begun > 5
        assert any(text.startswith("(waited ") for text in log)


async def test_pipelines_count_by_their_statements(workshop: Workshop) -> None:
    async with session(workshop, Purpose.MONITOR, limited(900, 60)) as (monitor, _):
        assert monitor.rate is not None
        before = monitor.rate.used
        await SignalReader().read(monitor)
        assert monitor.rate.used == before + 4
        foresight = Foresight()
        for _ in range(2):
            before = monitor.rate.used
            async with foresight.over(monitor) as quick:
                assert await quick.value("select 7") == 7
            assert monitor.rate.used == before + 1


async def test_targets_and_limits_have_their_own(workshop: Workshop) -> None:
    one, two = Target(name="a", host="h"), Target(name="b", host="h")
    assert rate_of(one, Settings()) is rate_of(one, Settings())
    assert rate_of(one, Settings()) is not rate_of(two, Settings())
    assert rate_of(one, Settings()) is not rate_of(one, limited(5, 5))


@pytest.mark.parametrize(("used", "status"), [(9, Status.PASS), (10, Status.WAIT)])
async def test_the_gate_at_the_limit(workshop: Workshop, used: int, status: Status) -> None:
    workshop.monitor.rate = rate = QueryRate(10, 30)
    ctx = await context(workshop)
    rate._sent.clear()
    await rate.turn(used, wait=False)
    (v,) = await query_rate.read(ctx)
    assert v.status is status
    assert (v.retry_at is not None) is (status is Status.WAIT)
    workshop.monitor.purpose = Purpose.OBSERVER
    assert (await query_rate.read(ctx))[0].allows
    workshop.monitor.rate = None
    with pytest.raises(ValueError, match="not counted"):
        await query_rate.read(ctx)


async def test_a_gate_that_had_to_wait_too_long_refuses(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexpilot_tui.engine.safeguards.gates.GATE_TIMEOUT_S", 0.3)
    ctx = await context(workshop)
    workshop.monitor.rate = rate = QueryRate(1, 30)
    await rate.turn(1, wait=False)
    found = await asyncio.wait_for(evaluate(ctx), 60)
    assert {v.status for v in found if v.guard in ("primary", "load", "clock")} <= {Status.UNKNOWN, Status.PASS}
    assert next(v for v in found if v.guard == "primary").status is Status.UNKNOWN
