"""What every screen looks like, at both sizes and in both themes, with the clock stopped.

After a wanted change of a screen: `pytest tests/tui/test_snapshots.py --snapshot-update`, and look at the SVGs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from indexpilot_tui.errors import ConnectError
from indexpilot_tui.settings.model import Settings, Tui
from indexpilot_tui.tui.app import ConsoleApp
from tests.tui import sample
from tests.tui.frozen import FrozenClock
from tests.tui.stage import (
    DARK,
    LIGHT,
    NARROW,
    WIDE,
    Stage,
    press,
    settle,
    stage,
    tick,
    to_approval,
    to_build,
    to_running,
    to_verify,
    typed,
)

Walk = Callable[[Stage, Pilot[Any]], Any]


def keys(*names: str) -> Walk:
    async def walk(on: Stage, pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, *names)

    return walk


async def approval(on: Stage, pilot: Pilot[Any]) -> None:
    await to_approval(pilot)


async def before_build(on: Stage, pilot: Pilot[Any]) -> None:
    await to_build(pilot)


async def building(on: Stage, pilot: Pilot[Any]) -> None:
    await to_running(pilot)
    await tick(on, pilot)


async def verify(on: Stage, pilot: Pilot[Any]) -> None:
    await to_verify(on)(pilot)


async def roll_back(on: Stage, pilot: Pilot[Any]) -> None:
    await to_verify(on)(pilot)
    await press(pilot, "R", "n")
    await typed(pilot, sample.NAME)


async def way_back(on: Stage, pilot: Pilot[Any]) -> None:
    await to_verify(on)(pilot)
    await press(pilot, "R")


async def rehearsed(on: Stage, pilot: Pilot[Any]) -> None:
    await way_back(on, pilot)
    await press(pilot, "h")


async def not_held(on: Stage, pilot: Pilot[Any]) -> None:
    on.engine.rehearsal_holds = False
    await to_verify(on)(pilot)
    dropped = on.engine.store[17]
    on.engine.store[17] = replace(dropped, kind="drop")
    await press(pilot, "R", "h")


async def stale(on: Stage, pilot: Pilot[Any]) -> None:
    await settle(pilot)
    on.engine.observation = replace(on.engine.observation, error="the server closed the connection")
    on.engine.gates_now = sample.closed_window(sample.gates())
    await tick(on, pilot, 42)


async def stale_signals(on: Stage, pilot: Pilot[Any]) -> None:
    await settle(pilot)
    await press(pilot, "s")
    await stale(on, pilot)


async def since_mark(on: Stage, pilot: Pilot[Any]) -> None:
    await settle(pilot)
    await press(pilot, "m")
    await typed(pilot, "-8")
    await press(pilot, "enter")
    await tick(on, pilot)
    await press(pilot, "w", "w", "w", "w")


async def bypass(on: Stage, pilot: Pilot[Any]) -> None:
    await settle(pilot)
    on.engine.lifted = sample.bypass()
    await tick(on, pilot)


async def bypass_while_building(on: Stage, pilot: Pilot[Any]) -> None:
    on.engine.lifted = sample.bypass(reviewed=True)
    await to_running(pilot)
    await tick(on, pilot)


CASES: dict[str, tuple[str, str, tuple[int, int], Walk]] = {
    "first_wide_dark": (DARK, "demo", WIDE, keys()),
    "first_wide_light_production": (LIGHT, "production", WIDE, keys()),
    "first_narrow_dark_production": (DARK, "production", NARROW, keys()),
    "first_narrow_light": (LIGHT, "demo", NARROW, keys("3")),
    "stale_wide": (DARK, "staging", WIDE, stale),
    "bypass_wide": (DARK, "development", WIDE, bypass),
    "bypass_narrow": (LIGHT, "production", NARROW, bypass),
    "bypass_building_narrow": (DARK, "production", NARROW, bypass_while_building),
    "query_wide": (DARK, "demo", WIDE, keys("enter")),
    "query_narrow": (LIGHT, "demo", NARROW, keys("enter")),
    "since_mark_wide": (DARK, "production", WIDE, since_mark),
    "by_table_narrow": (LIGHT, "demo", NARROW, keys("w", "w", "b")),
    "plans_narrow": (LIGHT, "demo", NARROW, keys("enter", "x")),
    "activity_wide": (LIGHT, "production", WIDE, keys("a")),
    "activity_narrow": (DARK, "demo", NARROW, keys("a", "down")),
    "signals_wide": (DARK, "production", WIDE, keys("s")),
    "signals_wide_light": (LIGHT, "demo", WIDE, keys("s", "end")),
    "signals_narrow": (DARK, "demo", NARROW, keys("s", "t")),
    "signals_narrow_light": (LIGHT, "production", NARROW, keys("s", "down")),
    "signals_stale_wide": (LIGHT, "staging", WIDE, stale_signals),
    "signals_stale_narrow": (DARK, "staging", NARROW, stale_signals),
    "finding_narrow": (DARK, "demo", NARROW, keys("2", "enter")),
    "simulate_wide": (DARK, "demo", WIDE, keys("i")),
    "simulate_narrow": (LIGHT, "demo", NARROW, keys("i")),
    "review_wide": (LIGHT, "production", WIDE, keys("i", "n")),
    "review_narrow": (DARK, "demo", NARROW, keys("i", "n")),
    "approve_narrow": (DARK, "demo", NARROW, approval),
    "build_gates_wide": (DARK, "production", WIDE, before_build),
    "building_narrow": (DARK, "demo", NARROW, building),
    "building_wide": (LIGHT, "demo", WIDE, building),
    "verify_wide": (DARK, "demo", WIDE, verify),
    "verify_narrow": (LIGHT, "demo", NARROW, verify),
    "roll_back_narrow": (DARK, "production", NARROW, roll_back),
    "way_back_wide": (LIGHT, "production", WIDE, way_back),
    "rehearsed_wide": (DARK, "demo", WIDE, rehearsed),
    "rehearsed_narrow": (LIGHT, "demo", NARROW, rehearsed),
    "rehearsal_differs_narrow": (DARK, "production", NARROW, not_held),
    "rehearsal_differs_wide": (DARK, "production", WIDE, not_held),
    "help_narrow": (DARK, "demo", NARROW, keys("question_mark")),
    "log_narrow": (LIGHT, "demo", NARROW, keys("L")),
}


@pytest.mark.parametrize("name", CASES)
def test_screen(name: str, snap_compare: Any) -> None:
    theme, environment, size, walk = CASES[name]
    on = stage(theme, environment)

    async def run_before(pilot: Pilot[Any]) -> None:
        await walk(on, pilot)
        await settle(pilot)

    assert snap_compare(on.app, terminal_size=size, run_before=run_before)


def test_not_connected(snap_compare: Any) -> None:
    async def refuse(_: object) -> Any:
        raise ConnectError("connection refused", field="host", value="db-1", remedy="is the server running?")

    app = ConsoleApp(refuse, settings=Settings(tui=Tui(theme=DARK)), target_label="orders", clock=FrozenClock().clock())

    async def run_before(pilot: Pilot[Any]) -> None:
        await settle(pilot)

    assert snap_compare(app, terminal_size=NARROW, run_before=run_before)
