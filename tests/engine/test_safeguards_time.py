"""Gates about time: what is planned must end in the window, and the clocks must agree."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards import clock
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import evaluate
from indexpilot_tui.engine.safeguards.maintenance_window import duration, longest
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings, Window
from tests.engine.gates_room import approved, approved_with, context, plan_of, verdict, workshop
from tests.faults.workshop import Workshop

__all__ = ["workshop"]

CLOSES = datetime(2026, 6, 10, 6, tzinfo=UTC)  # the default window is 02:00 to 06:00 UTC


def takes(seconds: float | None) -> Callable[[], Awaitable[BuildEstimate]]:
    async def ask() -> BuildEstimate:
        return BuildEstimate(1, 0, 1, seconds, "pg_default", "")

    return ask


async def before_the_end(workshop: Workshop, seconds: float | None, left: float) -> GateContext:
    plan = await plan_of(workshop)
    now = CLOSES - timedelta(seconds=left)
    return await context(workshop, plan, settings=Settings(), now=now, estimate=takes(seconds))


async def window(ctx: GateContext) -> Verdict:
    return await verdict(ctx, "maintenance_window")


async def test_what_would_not_end_in_the_window_waits_for_the_next(workshop: Workshop) -> None:
    v = await window(await before_the_end(workshop, 600, left=600.001))
    assert v.status is Status.PASS
    assert "may take 10 min 0 s" in v.evidence
    v = await window(await before_the_end(workshop, 600, left=600))  # the end itself is too late
    assert v.status is Status.WAIT
    assert v.retry_at == datetime(2026, 6, 11, 2, tzinfo=UTC)
    assert "too long for what is left" in v.evidence


async def test_what_no_window_holds_needs_a_person(workshop: Workshop) -> None:
    v = await window(await before_the_end(workshop, 4 * 3600 - 1, left=4 * 3600))
    assert v.status is Status.PASS
    v = await window(await before_the_end(workshop, 4 * 3600, left=4 * 3600))
    assert v.status is Status.BLOCK
    assert "may take 4 h 0 min, longer than the window is ever open" in v.evidence


async def test_an_unknown_time_is_told_and_one_that_cannot_be_asked_refuses(workshop: Workshop) -> None:
    v = await window(await before_the_end(workshop, None, left=60))
    assert v.allows
    assert "how long this takes is not known" in v.evidence

    async def broken() -> BuildEstimate:
        raise ServerError("the table is gone")

    for estimate in (None, broken):
        ctx = replace(await before_the_end(workshop, 1, left=3600), estimate=estimate)
        assert (await window(ctx)).status is Status.UNKNOWN


async def test_a_way_back_is_not_held_by_the_end(workshop: Workshop) -> None:
    assert (await window(replace(await before_the_end(workshop, 600, left=1), rollback=True))).allows


async def test_the_estimate_comes_from_the_server_and_is_the_only_thing_in_the_way(workshop: Workshop) -> None:
    """Everything else passes for a build of 20,000 rows that starts 50 ms before the end."""
    ctx = await approved(workshop)
    end = ctx.now + timedelta(minutes=1)
    hours = {"start_hour": (end.hour + 23) % 24, "start_minute": end.minute, "end_hour": end.hour, "end_minute": end.minute}
    safeguards = replace(ctx.settings.production_safeguards, maintenance_window=Window(**hours))
    settings = replace(ctx.settings, production_safeguards=safeguards)
    end = end.replace(second=0, microsecond=0)
    ctx = approved_with(replace(ctx, settings=settings))
    late = replace(ctx, settings=settings, now=end - timedelta(milliseconds=50))
    assert [v.guard for v in await evaluate(late) if not v.allows] == ["maintenance_window"]
    early = replace(ctx, settings=settings, now=end - timedelta(seconds=30))
    assert [v.guard for v in await evaluate(early) if not v.allows] == []


def test_how_long_a_window_is_open() -> None:
    assert longest(Window()) == timedelta(hours=4)
    assert longest(Window(start_hour=23, end_hour=1, end_minute=30)) == timedelta(hours=2, minutes=30)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (9.9, "9.9 s"), (42, "42 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7290, "2 h 1 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("skew", "status"),
    [(0, Status.PASS), (5, Status.PASS), (-5, Status.PASS), (5.0001, Status.BLOCK), (-5.0001, Status.BLOCK)],
)
def test_clocks_may_differ_by_the_limit(skew: float, status: Status) -> None:
    assert clock.judge(skew, 5)[0].status is status


async def test_a_console_whose_clock_is_wrong_is_refused(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = await approved(workshop)
    assert (await verdict(ctx, "clock")).allows
    real = time.time
    for offset, word in ((-7200, "behind"), (7200, "ahead of"), (6, "ahead of")):
        monkeypatch.setattr("indexpilot_tui.engine.safeguards.clock.time.time", lambda by=offset: real() + by)
        refused = [v for v in await evaluate(ctx) if not v.allows]
        assert [v.guard for v in refused] == ["clock"]  # nothing else would have stopped it
        assert f"this machine is {word} the database's" in refused[0].evidence
        assert (await verdict(replace(ctx, rollback=True), "clock")).allows
