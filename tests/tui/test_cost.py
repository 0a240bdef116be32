"""What the first screen does not do: draw what has not changed, and keep what was cut out of its lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from textual.strip import Strip
from textual.widget import Widget

from indexpilot_tui.engine.observe.model import Observation
from indexpilot_tui.tui.lines import text_of
from indexpilot_tui.tui.panes.hotspots import HotspotsPane
from indexpilot_tui.tui.port import ConsoleEngine
from indexpilot_tui.tui.widgets.footer import ActionFooter
from tests.tui.stage import NARROW, WIDE, press, settle, stage


async def test_a_second_without_new_data_moves_the_clock_and_draws_no_pane(monkeypatch: pytest.MonkeyPatch) -> None:
    on, drawn = stage(), []
    show = HotspotsPane.show
    monkeypatch.setattr(HotspotsPane, "show", lambda self, snapshot: (drawn.append(snapshot), show(self, snapshot)))
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        on.app._tick()
        drawn.clear()
        before = on.text("#strip")
        on.clock.push(1.0)
        on.app._tick()
        assert on.text("#strip") != before
        assert not drawn
        on.app.shown = replace(on.app.shown)
        on.app._tick()
        assert drawn == [on.app.shown]
        await pilot.resize_terminal(*NARROW)
        await settle(pilot)
        assert len(drawn) > 1


async def test_keys_work_as_soon_as_there_is_an_engine() -> None:
    """Even when its first reading takes long: no second draws the panes until then."""
    on, connected = stage(), asyncio.Event()
    observe, opened = on.engine.observe, on.app._open_engine

    async def open_later(told: Callable[[str], None]) -> ConsoleEngine:
        await connected.wait()
        return await opened(told)

    async def never() -> Observation:
        await asyncio.Event().wait()
        return await observe()

    on.app._open_engine, on.engine.observe = open_later, never  # type: ignore[method-assign]
    async with on.app.run_test(size=WIDE) as pilot:
        await pilot.pause(0.2)
        on.app._tick()
        footer = on.app.screen.query_one(ActionFooter)
        before = text_of(footer.lines[0])
        greyed = footer.lines[0]
        connected.set()
        await pilot.pause(0.2)
        on.app._tick()
        assert text_of(footer.lines[0]) == before
        assert footer.lines[0] != greyed  # the same keys, and not grey any more


def kept(strips: list[Strip]) -> int:
    """How many strips these are, with all that hang on them."""
    found: dict[int, Strip] = {}
    left = list(strips)
    while left:
        strip = left.pop()
        if id(strip) in found:
            continue
        found[id(strip)] = strip
        for cache in (strip._divide_cache, strip._crop_cache, strip._filter_cache):
            for value in cache._cache.values():
                left.extend(value if isinstance(value, list) else [value])
    return len(found)


async def test_a_painted_line_is_kept_once() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "j", "k", "j", "3", "2", "1")
        widgets = [on.app.screen, *on.app.screen.query(Widget).results(Widget)]
        counts = {str(w): kept(list(w._styles_cache._cache.values())) for w in widgets if w.size.area > 40}
        assert len(counts) > 5
        assert sum(counts.values()) < 240, counts  # some 180 lines, some of them as the filters of colours left them, too
