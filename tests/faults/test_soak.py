"""Family 27, a few steps of it; the whole is `python -m tests.bench.soak`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.faults.busy import busy_workshop
from tests.faults.soaking import FAULTS, play
from tests.faults.workshop import Workshop
from tests.servers import TlsServer, start_tls_server

STEPS = 4
RESTART = "server: immediate stop and start"


@pytest.fixture
async def site(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with busy_workshop(cluster18) as made:
        yield made


@pytest.fixture(scope="module")
def solo() -> Iterator[TlsServer]:
    """A server of our own, to be stopped."""
    server = start_tls_server()
    yield server
    server.remove()


@pytest.mark.family(27)
async def test_random_changes_with_random_faults(site: Workshop, record_property: pytest.RecordProperty) -> None:
    record_property("injected", STEPS)
    for number in range(STEPS):
        rng = random.Random(f"4/{number}")
        # not a restart: the server is that of other tests, too, and forgets what it has not written yet
        played = await play(site, rng, number, fault=rng.choice([name for name in FAULTS if name != RESTART]))
        print(played)
        assert played.violations == (), played.story


@pytest.mark.family(27)
async def test_restarts_of_the_server_and_a_partitioned_table(
    solo: TlsServer, record_property: pytest.RecordProperty
) -> None:
    record_property("injected", 2)
    async with busy_workshop(solo) as site:
        for number, ddl in enumerate(("create index on app.p (w)", "create index on app.t (w)")):
            played = await play(site, random.Random(f"5/{number}"), number, fault=RESTART, ddl=ddl)
            print(played)
            assert played.violations == (), played.story
