"""A server of the checks' own: small, so that its limits can be reached, and with prepared transactions."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import Place, make_place
from tests.servers import DEBIAN_15, require

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
    root = Path(tempfile.mkdtemp(prefix="ixp-sb-"))
    os.chown(root, primary.owner_uid, primary.owner_gid)
    account = {"user": primary.owner_uid, "group": primary.owner_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    data = root / "data"
    server = None
    try:
        with psycopg.connect(primary.conninfo(), autocommit=True) as conn:
            conn.execute("create extension pg_stat_statements")
        subprocess.run(
            [DEBIAN_15 / "pg_basebackup", "-h", str(primary.socket_dir), "-p", str(primary.port), "-U", primary.superuser,
             "-D", data, "-R", "-X", "stream", "-c", "fast"],
            check=True, capture_output=True, cwd="/", **account,  # type: ignore[call-overload]
        )  # fmt: skip
        server = subprocess.Popen(
            [DEBIAN_15 / "postgres", "-D", data, "-c", f"unix_socket_directories={root}", "-c", "listen_addresses="],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **account,  # type: ignore[call-overload]
        )  # fmt: skip
        dsn = make_conninfo(primary.conninfo(), host=str(root))
        _wait_for(dsn)
        yield dsn
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)
            server.wait(20)
        asyncio.run(primary.stop())
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(dsn: str) -> None:
    for _ in range(100):
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the standby did not start")
