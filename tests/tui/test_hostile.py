"""What a server (or a colleague's comment) can put into names and texts does nothing but show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.observe.optional.model import Extras, Waits
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.tui.lines import flat, text_of, wrap
from tests.tui import sample, sample_signals
from tests.tui.stage import WIDE, press, settle, stage, tick, typed

EVIL = "a\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J[@click=app.quit]q[/foo][/]\\[ \u202etxt.exe\u200b \x9b31m\r\n\ttail"
HOSTILE = pytest.mark.family(23, no_oracle="screens only, nothing is changed")
FORBIDDEN = ("\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\r")


def harmless(text: str) -> bool:
    return not any(mark in text for mark in FORBIDDEN)


def hostile_stage():  # type: ignore[no-untyped-def]
    on = stage()
    seen = on.engine.observation
    line, block = clean_line(EVIL), clean(EVIL)
    spots = tuple(replace(i, query=line, user=line) for i in seen.hotspots.items)
    assert seen.health is not None
    findings = tuple(replace(f, index=line, table=line, evidence=block, risk=block, fix=line) for f in seen.health.findings)
    indexes = tuple(replace(i, name=line) for i in seen.health.indexes)
    builds = (replace(sample.progress(), index=line, phase=line, table=line),)
    on.engine.observation = replace(
        seen,
        hotspots=replace(seen.hotspots, items=spots, epoch_note=line),
        health=replace(seen.health, findings=findings, indexes=indexes),
        builds=builds,
        error=line,
    )
    signals = tuple(replace(g, name=line, evidence=line, why=line, words=line) for g in sample_signals.gauges())
    told = replace(sample_signals.extras(0), waits=Waits(((line, 7),), 10.0), missing=(line,))

    async def gauges() -> tuple[Gauge, ...]:
        return signals

    async def extras(queryid: int | None) -> Extras:
        return told

    on.engine.gauges, on.engine.extras = gauges, extras
    on.engine.gates_now = [replace(v, measured=line, limit=line, evidence=line, status=Status.WAIT) for v in sample.gates()]
    return on


@HOSTILE
@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("enter",),
        ("2", "enter"),
        ("3", "enter"),
        ("i",),
        ("i", "n"),
        ("2", "i"),
        ("slash", "[", "/", "x"),
        ("c",),
        ("s",),
        ("a",),
    ],
)
async def test_no_screen_obeys_or_breaks(keys: tuple[str, ...]) -> None:
    on = hostile_stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, *keys)
        await tick(on, pilot)
        drawn = "\n".join(strip.text for strip in on.app.screen._compositor.render_strips())
        assert harmless(drawn)
        assert on.app.is_running
        links = [
            s.style.meta for strip in on.app.screen._compositor.render_strips() for s in strip if s.style and s.style.meta
        ]
        assert not [meta for meta in links if "@click" in meta]


@HOSTILE
async def test_raw_text_that_was_never_cleaned_is_caught_by_the_second_fence() -> None:
    on = stage()
    on.engine.sent.append(replace(sample.sent()[0], text=EVIL, error=EVIL))
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "L")
        assert harmless("\n".join(strip.text for strip in on.app.screen._compositor.render_strips()))
    assert harmless(flat(EVIL))
    assert all(harmless(text_of(entry)) for entry in wrap(EVIL, 30))


@HOSTILE
async def test_a_hostile_index_name_is_confirmed_as_it_is_shown() -> None:
    on = stage()
    change = sample.change(17, sample.CANDIDATES[0], EVIL, "alice")
    on.engine.store[17] = replace(change, plan=replace(change.plan, index=EVIL))
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "c", "enter")
        await typed(pilot, clean_line(EVIL))
        await press(pilot, "enter")
        assert "approve 17" in on.engine.calls


async def test_a_defect_of_the_engine_is_told_and_does_not_end_the_console() -> None:
    on = stage()

    async def broken(_: str, __: object = None) -> None:
        raise KeyError("[/oops]")

    on.engine.simulate = broken  # type: ignore[method-assign,assignment]
    async with on.app.run_test(size=WIDE) as pilot:
        await to_build_or_stop(pilot)
        assert "by a defect of IndexPilot (KeyError" in on.text("#forecast")
        await press(pilot, "escape")
        assert on.screen == "Dashboard"


async def to_build_or_stop(pilot):  # type: ignore[no-untyped-def]
    await settle(pilot)
    await press(pilot, "i")
