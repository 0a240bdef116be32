"""Family 27, a few steps of it; the whole is `python -m tests.bench.soak`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.faults.soaking import play, soak_settings
from tests.faults.workshop import Workshop, make_workshop

STEPS = 4


@pytest.fixture
async def site(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18, soak_settings()) as made:
        yield made


@pytest.mark.family(27)
async def test_random_changes_with_random_faults(site: Workshop, record_property: pytest.RecordProperty) -> None:
    rng = random.Random(4)
    record_property("injected", STEPS)
    for number in range(STEPS):
        played = await play(site, rng, number)
        print(played)
        assert played.violations == (), played
