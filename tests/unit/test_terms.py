"""Which way each setting of the safeguards gets looser: every one is judged, and one that nobody judged counts as looser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.safeguards.terms import DIRECTIONS, Looser, looser, safeguards_of, terms_of
from indexpilot_tui.settings.model import Settings, Target

TARGET = Target(name="t", environment="staging", dsn="host=h")
BASE = terms_of(TARGET, Settings())


def changed(key: str, value: Any) -> dict[str, Any]:
    return BASE | {"safeguards": BASE["safeguards"] | {key: value}}


def test_every_direction_is_of_a_setting_that_there_is() -> None:
    assert set(DIRECTIONS) <= set(safeguards_of(TARGET, Settings()))
    assert len(set(safeguards_of(TARGET, Settings())) - set(DIRECTIONS)) < 20


@pytest.mark.parametrize("key", DIRECTIONS)
def test_a_setting_gets_looser_one_way_only(key: str) -> None:
    old = 5 if DIRECTIONS[key] is not Looser.OFF else True
    before = changed(key, old)
    loose: list[Any] = {Looser.BIGGER: [6, None], Looser.SMALLER: [4, None], Looser.OFF: [False, None]}[DIRECTIONS[key]]
    strict: list[Any] = {Looser.BIGGER: [4, 5], Looser.SMALLER: [6, 5], Looser.OFF: [True]}[DIRECTIONS[key]]
    for value in loose:
        assert len(looser(before, changed(key, value))) == 1, value
    for value in strict:
        assert looser(before, changed(key, value)) == [], value
    if DIRECTIONS[key] is not Looser.OFF:
        assert looser(changed(key, None), changed(key, 5)) == []


def test_what_nobody_judged_is_looser_whichever_way() -> None:
    for key in set(safeguards_of(TARGET, Settings())) - set(DIRECTIONS):
        assert looser(BASE, changed(key, "something else"))
    assert looser(BASE, changed("brand.new", 1))
    without = {k: v for k, v in BASE["safeguards"].items() if k != "disk.safety_factor"}
    assert looser(BASE, BASE | {"safeguards": without}) == ["disk.safety_factor: 1.3 then, not there now"]
    assert looser({}, BASE)


def test_the_environment() -> None:
    for then, now, fine in (("production", "staging", False), ("staging", "production", True), ("staging", "development", False),
                            ("development", "staging", False), ("demo", "demo", True)):  # fmt: skip
        found = looser(
            terms_of(replace(TARGET, environment=then), Settings()), terms_of(replace(TARGET, environment=now), Settings())
        )
        assert (found == []) is fine, (then, now)
