"""Real clusters: start, stop, and what is left after every way to die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster, binaries
from tests.servers import require

OWNER = """
import asyncio, sys
from indexpilot_tui.localpg import LocalCluster

async def main():
    cluster = await LocalCluster.start("owner")
    print(cluster.directory, cluster.keeper_pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _server_pid(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split("\n")[0])


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def _within(seconds: float, holds: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, "it did not come true in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


def _owner() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)


def _clusters(purpose: str) -> set[str]:
    return {str(path) for path in Path(tempfile.gettempdir()).glob(f"indexpilot-{purpose}-*")}


async def test_start_serves_privately_and_stop_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    monkeypatch.setenv("PGREQUIREAUTH", "scram-sha-256")
    async with await LocalCluster.start("plain", settings={"work_mem": "7MB"}) as cluster:
        directory, server = cluster.directory, _server_pid(cluster.directory)
        assert cluster.version >= 180_000
        assert cluster.data_dir.stat().st_mode & 0o777 == 0o700
        assert cluster.socket_dir.stat().st_mode & 0o777 == 0o700
        assert cluster.socket_dir.stat().st_uid == cluster.owner_uid
        assert os.stat(f"/proc/{server}").st_uid == cluster.owner_uid != 0
        async with await psycopg.AsyncConnection.connect(cluster.conninfo(), autocommit=True) as connection:
            rows = await connection.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('listen_addresses'),"
                " current_setting('work_mem'), current_setting('data_checksums'), current_user"
            )
            assert await rows.fetchone() == (cluster.version, "", "7MB", "off", cluster.superuser)
    assert not directory.exists()
    assert not _alive(server)
    await cluster.stop()


async def test_another_major_and_checksums() -> None:
    older = binaries.system(15)
    require(older is not None, "postgresql-15")
    async with await LocalCluster.start("older", checksums=True, bindir=older) as cluster:
        assert 150_000 <= cluster.version < 160_000
        async with await psycopg.AsyncConnection.connect(cluster.conninfo()) as connection:
            row = await (await connection.execute("SELECT current_setting('data_checksums')")).fetchone()
            assert row == ("on",)


async def test_two_at_once_do_not_meet() -> None:
    one, two = await asyncio.gather(LocalCluster.start("twin"), LocalCluster.start("twin"))
    try:
        assert one.directory != two.directory
        assert _server_pid(one.directory) != _server_pid(two.directory)
    finally:
        await one.stop()
        assert _alive(_server_pid(two.directory))
        await two.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_the_end_of_the_owner_is_the_end_of_the_server(how: signal.Signals) -> None:
    owner = _owner()
    assert owner.stdout is not None
    with owner.stdout:
        directory = Path(owner.stdout.readline().split()[0])
        server = _server_pid(directory)
        assert _alive(server)
        owner.send_signal(how)
        owner.wait()
    took = await _within(3.0, lambda: not _alive(server) and not directory.exists())
    print(f"owner gone by {how.name}: server and directory gone {took:.2f} s later")


async def test_an_owner_killed_while_the_cluster_is_made_leaves_nothing() -> None:
    before = _clusters("owner")
    owner = _owner()
    await _within(10.0, lambda: bool(_clusters("owner") - before))
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()
    await _within(3.0, lambda: _clusters("owner") <= before)


async def test_sigterm_to_the_keeper_stops_and_cleans() -> None:
    cluster = await LocalCluster.start("term")
    server = _server_pid(cluster.directory)
    os.kill(cluster.keeper_pid, signal.SIGHUP)
    await asyncio.sleep(0.2)
    assert cluster.running, "a hang-up of the terminal is not the end of the owner"
    os.kill(cluster.keeper_pid, signal.SIGTERM)
    await _within(3.0, lambda: not _alive(server) and not cluster.directory.exists())
    await cluster.stop()


async def test_a_server_that_dies_takes_its_directory_with_it() -> None:
    cluster = await LocalCluster.start("dies")
    assert "ready to accept connections" in cluster.log_tail()
    os.kill(_server_pid(cluster.directory), signal.SIGQUIT)
    await _within(3.0, lambda: not cluster.directory.exists() and not cluster.running)
    assert "received immediate shutdown request" in cluster.log_tail(), "its last words are kept"
    await cluster.stop()


async def test_a_killed_keepers_cluster_is_swept_by_the_next_start() -> None:
    cluster = await LocalCluster.start("killed")
    server = _server_pid(cluster.directory)
    os.kill(cluster.keeper_pid, signal.SIGKILL)
    await _within(3.0, lambda: not _alive(server))
    assert cluster.directory.exists(), "nobody was left to remove it"
    async with await LocalCluster.start("next"):
        assert not cluster.directory.exists()
    await cluster.stop()


async def test_a_killed_keepers_cluster_is_removed_by_stop() -> None:
    cluster = await LocalCluster.start("killed")
    os.kill(cluster.keeper_pid, signal.SIGKILL)
    await cluster.stop()
    assert not cluster.directory.exists()


async def test_a_server_that_does_not_start_says_why_and_leaves_nothing() -> None:
    with pytest.raises(LocalServerError) as caught:
        await LocalCluster.start("bad", settings={"no_such_setting": "1"})
    assert 'unrecognized configuration parameter "no_such_setting"' in str(caught.value)
    assert not _clusters("bad")


async def test_a_cancelled_start_leaves_nothing() -> None:
    task = asyncio.create_task(LocalCluster.start("cancelled"))
    await _within(10.0, lambda: bool(_clusters("cancelled")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _clusters("cancelled")
