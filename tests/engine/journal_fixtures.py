"""The fixtures of the journal's tests: a control schema on the embedded 18 and on Debian's 15. Loaded as a plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.engine.journal_room import Room, make_room
from tests.servers import DEBIAN_15, require


@pytest.fixture(scope="session")
def journal_debian15() -> Iterator[LocalCluster]:
    require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    cluster = asyncio.run(LocalCluster.start("journal", bindir=DEBIAN_15))
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture(params=["18", "15"])
def journal_server(request: pytest.FixtureRequest) -> LocalCluster:
    name = "cluster18" if request.param == "18" else "journal_debian15"
    server: LocalCluster = request.getfixturevalue(name)
    return server


@pytest.fixture
async def room(journal_server: LocalCluster) -> AsyncIterator[Room]:
    async with make_room(journal_server) as made:
        yield made
