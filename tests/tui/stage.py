"""The console on the frozen engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from indexpilot_tui.settings.model import Settings, Target, Tui
from indexpilot_tui.tui.app import ConsoleApp
from indexpilot_tui.tui.lines import text_of
from indexpilot_tui.tui.widgets.footer import ActionFooter
from indexpilot_tui.tui.widgets.lineview import LineView
from tests.tui.frozen import FrozenClock, FrozenEngine

WIDE, NARROW = (120, 40), (80, 24)
DARK, LIGHT = "indexpilot-dark", "indexpilot-light"
BANNER = "DEMO: a temporary server, generated data"
REASON = "slow customer page"


@dataclass
class Stage:
    app: ConsoleApp
    engine: FrozenEngine
    clock: FrozenClock

    def text(self, selector: str) -> str:
        """The lines of a widget of the screen in front."""
        return "\n".join(text_of(entry) for entry in self.app.screen.query_one(selector, LineView).lines)

    @property
    def message(self) -> str:
        return self.app.screen.query_one(ActionFooter).message

    @property
    def screen(self) -> str:
        return type(self.app.screen).__name__


def stage(theme: str = DARK, environment: str = "demo", **engine: Any) -> Stage:
    clock = FrozenClock()
    frozen = FrozenEngine(target=Target(name="orders", environment=environment), **engine)  # type: ignore[arg-type]

    async def open_engine(_: Callable[[str], None]) -> FrozenEngine:
        return frozen

    app = ConsoleApp(
        open_engine,
        settings=Settings(tui=Tui(theme=theme)),
        target_label="orders-db-1/shop",
        banner=BANNER if environment == "demo" else "",
        clock=clock.clock(),
    )
    return Stage(app, frozen, clock)


async def settle(pilot: Pilot[Any], turns: int = 1) -> None:
    """Let workers, switches and repaints come to rest: until nothing moves in `turns` looks in a row."""
    before, still = None, 0
    while still < turns:
        await pilot.pause()
        running = [worker for worker in pilot.app.workers if worker.group != "engine" and not worker.is_finished]
        if running:
            await pilot.app.workers.wait_for_complete(running)
        await pilot.pause(0.06)  # Textual switches screens with a delay of 50 ms
        screen = pilot.app.screen
        now = (id(screen), screen.focused, tuple(strip.text for strip in screen._compositor.render_strips()))
        still = still + 1 if now == before else 0
        before = now


async def typed(pilot: Pilot[Any], text: str) -> None:
    field = pilot.app.screen.focused
    assert isinstance(field, Input)
    field.insert_text_at_cursor(text)
    await settle(pilot)


async def press(pilot: Pilot[Any], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def to_approval(pilot: Pilot[Any]) -> None:
    """From the first screen to a proposed change."""
    await settle(pilot)
    await press(pilot, "i", "n", "n")
    await typed(pilot, REASON)
    await press(pilot, "enter")


async def to_build(pilot: Pilot[Any], name: str = "orders_customer_id_idx") -> None:
    await to_approval(pilot)
    await typed(pilot, name)
    await press(pilot, "enter")


async def to_running(pilot: Pilot[Any], name: str = "orders_customer_id_idx") -> None:
    await to_build(pilot, name)
    await typed(pilot, name)
    await press(pilot, "enter")


def to_verify(on: Stage) -> Callable[[Pilot[Any]], Any]:
    async def walk(pilot: Pilot[Any]) -> None:
        await to_running(pilot)
        on.engine.built(17)
        await tick(on, pilot)

    return walk


async def tick(on: Stage, pilot: Pilot[Any], seconds: float = 5.0) -> None:
    """Time passes, and the engine is read again."""
    on.clock.push(seconds)
    assert on.app.feed is not None
    on.app.feed.hurry()
    await settle(pilot)
    on.app._tick()
    await settle(pilot)
