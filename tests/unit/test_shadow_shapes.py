"""Fingerprints of plans from the shadow, where the login may not plan on the target; no server is needed for that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import shadow_shapes
from indexpilot_tui.engine.changes.plan_shapes import (
    CHANGED,
    HIDDEN,
    MAX_STATEMENTS,
    NOT_COMPARED,
    UNCHANGED,
    compare,
    shape,
)
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.whatif.model import PricePoint, QueryForecast
from indexpilot_tui.errors import IndexPilotError, ServerError
from indexpilot_tui.settings.model import Settings
from tests.unit.bench_of_changes import DROP
from tests.unit.desk import NOW, PLAN
from tests.unit.test_shapes import ONE, row
from tests.unit.test_verification_plans import INDEX, SCAN


def point(before: float, after: float) -> PricePoint:
    return PricePoint("common: v = 1", before, after, False)


def query(text: str = "select 1", after: Any = SCAN, *points: PricePoint) -> QueryForecast:
    return QueryForecast("1", text, 1.0, 9.0, 9.0, False, SCAN, after, points)


class Room:
    """Stands in for the what-if room."""

    forecast: Any = ()
    asked: list[Any]
    closed = False

    async def simulate(self, session: Any, ddl: str, statements: Any) -> Any:
        self.asked = [ddl, statements]
        if isinstance(self.forecast, IndexPilotError):
            raise self.forecast
        if self.forecast is None:
            await asyncio.sleep(9)
        return SimpleNamespace(queries=self.forecast)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    made = Room()

    @asynccontextmanager
    async def session(*_: Any) -> Any:
        yield None

    monkeypatch.setattr(shadow_shapes, "session", session)
    monkeypatch.setattr(shadow_shapes, "Simulator", lambda: made)
    return made


async def forecast(*rows: dict[str, Any], plan: Any = PLAN) -> Any:
    stats = {phase: PhaseStats(phase, NOW, None, rows, {"table": 1, "plans": {"1": {"why": HIDDEN}}, "plans_why": "w"})
             for phase in ("start", "end", "observed")}  # fmt: skip
    found, told = await shadow_shapes.with_shadow(None, Settings(), plan, stats)  # type: ignore[arg-type]
    assert found["end"] == stats["end"]
    return found, told, stats


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        (query(), UNCHANGED), (query("select 1", INDEX), CHANGED),
        (query(ONE), NOT_COMPARED), (query(ONE, SCAN, point(5.0, 5.0)), UNCHANGED),
        (query(ONE, SCAN, point(5.0, 5.0), point(5.0, 4.0)), CHANGED),
        (query("cut off", SCAN, point(5.0, 5.0)), UNCHANGED),
    ],
)  # fmt: skip
async def test_the_shadow_tells_whether_a_plan_changed(room: Room, of: QueryForecast, verdict: str) -> None:
    room.forecast = (of,)
    found, told, _ = await forecast(row(ONE))
    before, after = (found[phase].context for phase in ("start", "observed"))
    assert compare(before["plans"]["1"], after["plans"]["1"])[0] == verdict
    assert after["plans"]["1"]["parameters"] == int(of.query != "select 1")
    assert after["plans"]["1"]["shapes"]["generic"] == shape(of.plan_before), "what stands now is before the opposite"
    assert (before["plans_why"], before["table"]) == ("", 1)
    assert told.startswith("plans of 1 statements from the shadow")
    assert room.closed


@pytest.mark.parametrize(
    ("plan", "ddl"),
    [(PLAN, "DROP INDEX CONCURRENTLY public.orders_customer_idx"),
     (replace(DROP, saved={"definition": "CREATE INDEX i ON t (a)"}), "CREATE INDEX i ON t (a)")],
)  # fmt: skip
async def test_the_opposite_is_forecast_for_the_statements_that_cost_most(room: Room, plan: Any, ddl: str) -> None:
    rows = [row(f"select {n}", n, float(n)) for n in range(100)] + [row("select 8", None, 900.0)]
    await forecast(*rows, plan=plan)
    assert room.asked[0] == ddl
    assert [s.key for s in room.asked[1]] == [str(n) for n in range(99, 99 - MAX_STATEMENTS, -1)]


async def test_without_an_answer_of_the_shadow_nothing_is_known(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_shapes, "LIMIT_S", 0.01)
    for answer, why in ((ServerError("no\nroom"), "either: no room"), (None, "either: no answer within 0 s")):
        room.forecast, room.closed = answer, False
        found, told, stats = await forecast(row(ONE))
        assert found == stats
        assert told.endswith(why)
        assert room.closed
