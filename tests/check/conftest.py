"""A server of the checks' own: small, so that its limits can be reached, and with prepared transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import Place, make_place
from tests.servers import DEBIAN_15, require
from tests.standby import standby_of

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_prepared_transactions": "5",
    "max_connections": "20",
    "autovacuum": "on",
    "autovacuum_naptime": "1h",
    "fsync": "on",
    "full_page_writes": "on",
}


@pytest.fixture(scope="session")
def check_cluster() -> Iterator[LocalCluster]:
    cluster = asyncio.run(LocalCluster.start("check", settings=SETTINGS))
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture
async def place(check_cluster: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(check_cluster) as made:
        yield made


@pytest.fixture(scope="session")
def standby15() -> Iterator[str]:
    """The conninfo of a streaming standby of Debian's PostgreSQL 15."""
    require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    preload = {"shared_preload_libraries": "pg_stat_statements"}
    primary = asyncio.run(LocalCluster.start("primary", settings=preload, bindir=DEBIAN_15))
    try:
        with psycopg.connect(primary.conninfo(), autocommit=True) as conn:
            conn.execute("create extension pg_stat_statements")
        with standby_of(primary) as standby:
            yield standby.conninfo()
    finally:
        asyncio.run(primary.stop())
