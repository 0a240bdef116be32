"""Whose a local server is: an id that nothing else has, and nobody let in but who started it."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.localpg import LocalCluster, account, leftovers
from tests.servers import DEBIAN_15, require

PSQL = DEBIAN_15 / "psql"
SYSTEM_PYTHON = Path("/usr/bin/python3")
PACKAGE = Path(leftovers.__file__).parents[1]


def _needs_root() -> None:
    require(os.geteuid() == 0, "root, to be other users,")
    require(PSQL.exists(), "postgresql-15")


def _psql(cluster: LocalCluster, uid: int, gid: int, role: str = "") -> subprocess.CompletedProcess[str]:
    """What psql says as that user of the machine."""
    command = [PSQL, "-X", "-A", "-t", "-h", cluster.socket_dir, "-p", str(cluster.port), "-d", "postgres",
               "-U", role or cluster.superuser, "-c", "select 40 + 2"]  # fmt: skip
    return subprocess.run(
        command,
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        env={"HOME": "/"},
        check=False,
    )


def _open_the_folders(cluster: LocalCluster) -> None:
    """As if the rights of files kept nobody out: what remains is what the server asks."""
    cluster.directory.chmod(0o755)
    cluster.socket_dir.chmod(0o777)
    (cluster.socket_dir / f".s.PGSQL.{cluster.port}").chmod(0o777)


def _nobody_is_let_in(cluster: LocalCluster) -> None:
    nobody = pwd.getpwnam("nobody")
    mine = _psql(cluster, 0, 0)
    assert (mine.returncode, mine.stdout.strip()) == (0, "42"), mine.stderr
    theirs = _psql(cluster, nobody.pw_uid, nobody.pw_gid)
    assert theirs.returncode != 0
    assert "Permission denied" in theirs.stderr or "eer authentication failed" in theirs.stderr
    server = _psql(cluster, cluster.owner_uid, cluster.owner_gid)
    assert server.returncode != 0, "not even the server's own user, and so no code that runs in it"
    assert "eer authentication failed" in server.stderr or "could not look up local user" in server.stderr
    _open_the_folders(cluster)
    again = _psql(cluster, nobody.pw_uid, nobody.pw_gid)
    assert again.returncode != 0
    assert "eer authentication failed" in again.stderr


@pytest.mark.parametrize("version", [180000, 150000])
async def test_a_process_of_nobody_does_not_reach_a_shadow(version: int) -> None:
    _needs_root()
    shadow = ShadowServer()
    try:
        await shadow.warm(version)
        cluster = next(iter(shadow._clusters.values())).cluster
        assert cluster.version // 10_000 == version // 10_000
        assert cluster.access == "peer: root"
        _nobody_is_let_in(cluster)
        planner = _psql(cluster, 0, 0, "planner")
        assert (planner.returncode, planner.stdout.strip()) == (0, "42"), planner.stderr
    finally:
        await shadow.close()


async def test_every_server_has_a_user_of_its_own() -> None:
    _needs_root()
    async with await LocalCluster.start("one") as one, await LocalCluster.start("two") as two:
        assert one.owner_uid != two.owner_uid
        assert account.is_own(one.owner_uid)
        assert account.is_own(two.owner_uid)
        for cluster in (one, two):
            with pytest.raises(KeyError):
                pwd.getpwuid(cluster.owner_uid)
            status = cluster.directory.stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, cluster.owner_gid, 0o710)
            owners = {
                (path.lstat().st_uid, path.lstat().st_gid) for path in (cluster.data_dir, *cluster.data_dir.rglob("*"))
            }
            assert owners == {(cluster.owner_uid, cluster.owner_gid)}, "nothing of initdb's user is left"
        looked = subprocess.run(
            ["/bin/ls", one.directory],
            user=two.owner_uid,
            group=two.owner_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert looked.returncode != 0, "one server's user does not see another's"


async def test_where_no_such_id_is_to_be_had_nobody_serves_and_still_lets_none_of_its_kind_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _needs_root()
    monkeypatch.setattr(account, "_mapped", lambda ids, kind: False)
    async with await LocalCluster.start("nobody") as cluster:
        assert cluster.owner_uid == pwd.getpwnam("nobody").pw_uid
        _nobody_is_let_in(cluster)


def test_an_id_with_a_process_or_a_name_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = range(5_000, 5_003)
    monkeypatch.setattr(account, "OWN_IDS", (range(4_000_000_000, 4_000_000_001), ids))
    monkeypatch.setattr(account, "_mapped", lambda some, kind: some is ids)
    monkeypatch.setattr(account, "processes", lambda: {5_000: [1]})
    monkeypatch.setattr(account, "_name_of", lambda uid: "somebody" if uid == 5_001 else None)
    assert {account.unused_id() for _ in range(20)} == {5_002}
    monkeypatch.setattr(account, "_name_of", lambda uid: "somebody")
    assert account.unused_id() is None


@pytest.mark.parametrize(("name", "told"), [(None, "has no name"), ("/.*", "has no name"), ("two\nlines", "has no name")])
async def test_a_console_whose_user_has_no_name_is_told(
    name: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers with an arbitrary user id: the folder's rights alone are left."""
    monkeypatch.setattr(account, "_name_of", lambda uid: name)
    async with await LocalCluster.start("nameless") as cluster:
        assert cluster.access.startswith("trust: ")
        assert told in cluster.access
        async with await psycopg.AsyncConnection.connect(cluster.conninfo()) as connection:
            assert await (await connection.execute("select 1")).fetchone() == (1,)


async def test_what_a_crashed_run_left_is_found_and_removed() -> None:
    """Keeper and owner are gone, the server with them; a process with the server's id is still there, and another's too."""
    _needs_root()
    cluster = await LocalCluster.start("crashed")
    uid, gid, directory = cluster.owner_uid, cluster.owner_gid, cluster.directory
    stray = subprocess.Popen(["/bin/sleep", "300"], user=uid, group=gid, extra_groups=[])
    other = subprocess.Popen(["/bin/sleep", "300"], user=uid + 1, group=gid, extra_groups=[])
    try:
        os.kill(cluster.keeper_pid, signal.SIGKILL)
        cluster._process.wait()
        end = time.monotonic() + 5
        while directory.exists():  # by this sweep or by one of another test that starts a server
            leftovers.sweep(directory.parent)
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert account.processes().get(uid, []) == []
        assert stray.wait(5) == -signal.SIGKILL
        assert other.poll() is None, "of another id"
    finally:
        stray.kill()
        other.kill()
        stray.wait()
        other.wait()
        await cluster.stop()


async def test_ids_that_are_not_a_servers_own_are_never_stopped(tmp_path: Path) -> None:
    """A folder that belongs to an ordinary user is no licence to end that user's processes."""
    _needs_root()
    nobody = pwd.getpwnam("nobody")
    folder = tmp_path / "indexpilot-demo-abcdefgh"
    (folder / "s").mkdir(parents=True)
    (folder / "lock").touch()
    os.chown(folder / "s", nobody.pw_uid, nobody.pw_gid)
    bystander = subprocess.Popen(["/bin/sleep", "300"], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    try:
        assert leftovers.sweep(tmp_path) == [folder]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


ORDINARY = """
import asyncio, os, subprocess, sys
from pathlib import Path
from indexpilot_tui.localpg import LocalCluster

async def main():
    async with await LocalCluster.start("ordinary", bindir=Path(sys.argv[1]), logins=("planner",)) as cluster:
        print(cluster.access, cluster.confinement, cluster.owner_uid == os.geteuid(), sep="|", flush=True)
        print(cluster.directory, flush=True)
        psql = [sys.argv[1] + "/psql", "-XAt", "-h", str(cluster.socket_dir), "-d", "postgres", "-U", cluster.superuser, "-c"]
        print(subprocess.run([*psql, "select 40 + 2"], capture_output=True, text=True).stdout.strip(), flush=True)
        failed = subprocess.run([*psql, "copy (select 1) to program 'true'"], capture_output=True, text=True)
        print(failed.returncode, flush=True)
        folder = next((cluster.data_dir / "base").iterdir())
        cluster.files.write(int(folder.name), 3000000001, b"", 2)
        print((folder / "3000000001").stat().st_size, flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@pytest.fixture
def readable_package() -> Iterator[Path]:
    """Our package where every user can read it."""
    folder = Path(tempfile.mkdtemp(prefix="ixp-package-", dir="/var/tmp"))
    (folder / "indexpilot_tui").mkdir()
    for name in ("__init__.py", "errors.py", "scrub.py"):
        shutil.copy(PACKAGE / name, folder / "indexpilot_tui")
    shutil.copytree(PACKAGE / "localpg", folder / "indexpilot_tui" / "localpg", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_ordinary_users_server_is_that_users(readable_package: Path) -> None:
    _needs_root()
    require(SYSTEM_PYTHON.exists(), "python3 of the system")
    user, other = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    with subprocess.Popen(
        [SYSTEM_PYTHON, "-c", ORDINARY, DEBIAN_15], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", text=True,
        env={"PYTHONPATH": str(readable_package), "PATH": "/usr/bin:/bin", "TMPDIR": "/var/tmp", "HOME": "/"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as console:  # fmt: skip
        assert console.stdout is not None
        assert console.stdin is not None
        access, confined, same = console.stdout.readline().strip().split("|")
        assert (access, same) == ("peer: daemon", "True")
        directory = Path(console.stdout.readline().strip())
        assert console.stdout.readline().strip() == "42"
        assert (console.stdout.readline().strip() != "0") == (not confined.startswith("none"))
        assert console.stdout.readline().strip() == str(2 * 8192)
        assert directory.stat().st_uid == user.pw_uid
        assert directory.stat().st_mode & 0o777 == 0o700
        looked = subprocess.run(
            ["/bin/ls", directory], user=other.pw_uid, group=other.pw_gid, extra_groups=[], capture_output=True, check=False
        )
        assert looked.returncode != 0
        console.stdin.write("\n")
        console.stdin.flush()
        assert console.wait(20) == 0
    assert not directory.exists()
