"""Whole screens on hostile and extreme data: whatever a server says, keys pressed at random neither break a screen nor let
a text be more than a text."""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.errors import IndexPilotError
from tests.tui import sample
from tests.tui.frozen import FrozenEngine
from tests.tui.stage import NARROW, WIDE, press, settle, stage, tick, typed
from tests.tui.test_hostile import EVIL, harmless

SEEDS = range(8)
KEYS = (
    "1", "2", "3", "up", "down", "pageup", "pagedown", "home", "end", "left", "right", "enter", "escape", "tab", "space",
    "i", "n", "s", "a", "c", "L", "w", "g", "o", "t", "u", "d", "b", "p", "m", "r", "R", "h", "K", "x", "f", "e", "v", "question_mark",
    "slash", "backspace", "y", "k", "j", "l", "z", "T", "D", "F", "S", "A", "W",
)  # fmt: skip
PIECES = (
    EVIL, "", " ", "x" * 4000, "\n" * 40, "表" * 300, "e\u0301" * 80, "\U0001f469\u200d\U0001f4bb", "[bold red]", "[/]",
    "[@click=app.quit]q[/]", "$x", "{0}", "%s", "\\", "\t\t", "\u202eabc", "\ud800", '"; drop table x; --', "null", "-1", "NaN",
)  # fmt: skip
INTS = (0, 1, -1, 7, 10**6, 2**31, 2**63 - 1)
FLOATS = (0.0, 1e-9, 0.5, 1.0, 99.95, 1e6, 1e15)
KEPT = {"guard", "state", "id", "oid", "queryid"}  # what the console asks by, or looks up


class Poison:
    """Replaces what a server could have said. Texts are cleaned as the boundary does it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, value: Any, hint: str = "") -> Any:
        if isinstance(value, Enum) or value is None or isinstance(value, bool):
            return value
        if is_dataclass(value) and not isinstance(value, type):
            new = {f.name: self(getattr(value, f.name), str(f.type)) for f in fields(value) if f.init and f.name not in KEPT}
            return replace(value, **new)
        if isinstance(value, tuple) and type(value) is not tuple:
            return value  # a named tuple: counters, whose sums are not ours to break
        if isinstance(value, list | tuple):
            items = [self(v) for v in value]
            any_number = isinstance(value, list) or "..." in hint
            return type(value)(items * self.random.choice((0, 1, 1, 1, 1, 3)) if any_number else items)
        if isinstance(value, dict):
            return {k: self(v) for k, v in value.items()}
        if self.random.random() < 0.4:
            return value
        if isinstance(value, str) and hint in ("", "str", "str | None"):
            text = "".join(self.random.choices(PIECES, k=self.random.randint(1, 3)))
            return self.random.choice((clean, clean_line))(text)
        if type(value) is int:
            return self.random.choice(INTS)
        if type(value) is float:
            return self.random.choice(FLOATS)
        return value


@pytest.mark.family(23, no_oracle="screens only, nothing is changed")
@pytest.mark.parametrize("seed", SEEDS)
async def test_keys_at_random_on_poisoned_data(seed: int) -> None:
    poison, fingers, on = Poison(seed), random.Random(seed), stage()
    engine: FrozenEngine = on.engine
    for name in (
        "query_detail", "index_detail", "candidates", "simulate", "gates", "plans", "blocking", "extras", "gauges", "throttle",
        "way_back", "rehearse", "bypass",
    ):  # fmt: skip
        _poisoned(engine, name, poison)
    for number, state in enumerate(State, 1):
        made = sample.change(number, sample.CANDIDATES[0], "why", "alice")
        engine.store[number] = replace(poison(made), id=number, state=state, kind=made.kind)
    size = WIDE if seed % 2 else NARROW
    async with on.app.run_test(size=size) as pilot:
        await settle(pilot)
        for _ in range(14):
            engine.observation = poison(sample.observation())
            key = fingers.choice(KEYS)
            await press(pilot, key)
            if fingers.random() < 0.2 and on.app.screen.focused.__class__.__name__ == "Input":
                await typed(pilot, clean_line(fingers.choice(PIECES)))
            if fingers.random() < 0.3:
                await tick(on, pilot, fingers.choice((1.0, 30.0, 4000.0)))
            strips = on.app.screen._compositor.render_strips()
            assert on.app.is_running
            drawn = " ".join(strip.text for strip in strips)
            assert harmless(drawn), (seed, key)
            assert "by a defect" not in drawn, (seed, key, drawn)
            assert {strip.cell_length for strip in strips} == {size[0]}, (seed, key, on.screen)
            assert not [s for strip in strips for s in strip if s.style and s.style.meta and "@click" in s.style.meta]


def _poisoned(engine: FrozenEngine, name: str, poison: Poison) -> None:
    plain = getattr(engine, name)

    async def poisoned(*args: Any, **kwargs: Any) -> Any:
        if poison.random.random() < 0.1:
            raise IndexPilotError(clean(EVIL))
        try:
            return poison(await plain(*args, **kwargs))
        except RuntimeError:  # the sample has no such statement: it was forgotten since the screen was drawn
            raise IndexPilotError(clean(EVIL)) from None

    setattr(engine, name, poisoned)
