"""What the server of a local cluster cannot do, whoever asks for it: tried as its superuser, with harmless markers."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.whatif.confidence import Doubts, of_confinement
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster, confinement
from tests.servers import DEBIAN_15, require


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody may write."""
    folder = Path(tempfile.mkdtemp(prefix="ixp-open-", dir="/var/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _needs_landlock() -> None:
    require(not confinement.status().startswith("none"), "a kernel with Landlock")


async def _refused(connection: psycopg.AsyncConnection[tuple[object, ...]], statement: str) -> None:
    with pytest.raises(psycopg.Error):
        await connection.execute(statement.encode())


@pytest.mark.parametrize("major", [18, 15])
async def test_the_server_writes_nowhere_else_and_executes_nothing(major: int, open_folder: Path) -> None:
    _needs_landlock()
    require(major == 18 or DEBIAN_15.exists(), "postgresql-15")
    mark, shell = open_folder / "mark", shutil.which("dash") or "/bin/sh"
    async with await LocalCluster.start("confined", bindir=None if major == 18 else DEBIAN_15) as cluster:
        assert cluster.confinement == confinement.status()
        async with await psycopg.AsyncConnection.connect(cluster.conninfo(), autocommit=True) as connection:
            await _refused(connection, f"copy (select 1) to '{mark}'")
            await _refused(connection, f"copy (select 1) to program 'touch {mark}'")
            await _refused(connection, f"copy (select 1) to program 'exec {cluster.bindir}/initdb --version >{mark}'")
            await _refused(connection, f"select lo_export(lo_from_bytea(0, 'x'), '{mark}')")
            await _refused(connection, f"copy (select 1) to '{cluster.directory}/mark'")
            await _refused(connection, f"create tablespace elsewhere location '{open_folder}'")
            for unread in ("/etc/hostname", shell, "/proc/1/status", str(cluster.directory / "lock")):
                await _refused(connection, f"select pg_read_binary_file('{unread}')")
            await connection.execute(f"copy (select 1) to '{cluster.data_dir}/mark'".encode())  # its own folder, to compare
            await connection.execute(b"create table t as select generate_series(1, 100000) as i")
            for name in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
                await connection.execute(f"set {name} = 0".encode())
            plan = str(await (await connection.execute(b"explain (analyze) select sum(i) from t")).fetchall())
            assert "Workers Launched: 0" not in plan
            assert "Workers Launched" in plan, "shared memory in the data directory serves parallel workers"
        assert (cluster.data_dir / "mark").exists()
    assert list(open_folder.iterdir()) == []


async def test_without_confinement_the_same_writes_would_happen(open_folder: Path) -> None:
    """What the test above shows is the confinement's doing, and not that of the file's rights."""
    mark = open_folder / "mark"
    async with await LocalCluster.start("free", confined=False) as cluster:
        assert cluster.confinement == "none: not asked for"
        async with await psycopg.AsyncConnection.connect(cluster.conninfo(), autocommit=True) as connection:
            await connection.execute(f"copy (select 1) to program 'touch {mark}'".encode())
    assert mark.exists()


CONFINED = """
import os, signal, socket, subprocess, sys
from indexpilot_tui.localpg import confinement as c
port, name, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
c.restrict(c.ruleset([(c.READ, "/usr"), (c.READ, sys.prefix), (c.WRITE, folder)]))
def says(what):
    try:
        what()
        print("done")
    except OSError as error:
        print(type(error).__name__)
abstract = socket.socket(socket.AF_UNIX)
says(lambda: socket.create_connection(("127.0.0.1", port)))
says(lambda: socket.create_server(("127.0.0.1", 0)))
says(lambda: abstract.connect(chr(0) + name))
says(lambda: os.kill(os.getppid(), 0))
says(lambda: subprocess.run(["/usr/bin/true"]))
says(lambda: os.symlink("x", folder + "/link"))
says(lambda: os.mkfifo(folder + "/pipe"))
says(lambda: os.close(os.open(folder + "/file", os.O_CREAT | os.O_WRONLY)))
"""


def test_tcp_signals_programs_and_links_are_denied(tmp_path: Path) -> None:
    _needs_landlock()
    version, name = confinement.abi(), f"ixp-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        arguments = [str(tcp.getsockname()[1]), name, str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    net, scope = ["PermissionError"] * (2 if version >= 4 else 0), ["PermissionError"] * (2 if version >= 6 else 0)
    expected = [*(net or ["done"] * 2), *(scope or ["done"] * 2), *["PermissionError"] * 3, "done"]
    assert done.stdout.split() == expected, done.stderr


class _Kernel:
    """A kernel that answers every system call with this error."""

    def __init__(self, error: int) -> None:
        self.error = error

    def syscall(self, *_arguments: object) -> int:
        ctypes.set_errno(self.error)
        return -1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.ENOSYS, "no Landlock"),
        (errno.EOPNOTSUPP, "off in this kernel"),
        (errno.EPERM, "not permitted"),
        (errno.EIO, "answer"),
    ],
)
def test_a_kernel_without_it_is_told(error: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "_libc", _Kernel(error))
    assert confinement.status().startswith("none: ")
    assert told in confinement.status()
    with pytest.raises(confinement.UnconfinedError):
        confinement.ruleset([])
    doubts = Doubts()
    of_confinement(doubts, confinement.status())
    of_confinement(doubts, "landlock ABI 7")
    assert len(doubts.confidence().reasons) == 1
    assert told in doubts.confidence().reasons[0]
    assert doubts.confidence().level == "high", "the figures are as good as ever"


def test_an_older_interface_gets_the_rights_that_it_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _needs_landlock()
    for version in range(1, confinement.abi() + 1):
        monkeypatch.setattr(confinement, "abi", lambda version=version: version)
        os.close(confinement.ruleset([(confinement.WRITE, tmp_path), (confinement.READ, "/nowhere")]))


async def test_what_should_be_confined_and_cannot_be_is_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel has Landlock, and then refuses to confine: no server, and an error that says so."""
    _needs_landlock()
    source = Path(confinement.__file__)
    for file in source.parent.glob("*.py"):
        shutil.copy(file, tmp_path)
    broken = source.read_text().replace("_RESTRICT_SELF = 444, 445, 446", "_RESTRICT_SELF = 444, 445, 9999")
    assert broken != source.read_text()
    (tmp_path / "confinement.py").write_text(broken)
    monkeypatch.setattr("indexpilot_tui.localpg.keeper.__file__", str(tmp_path / "keeper.py"))
    with pytest.raises(LocalServerError) as caught:
        await LocalCluster.start("unsure")
    assert "could not be" in str(caught.value)
    assert "preexec_fn" in str(caught.value)
    assert not list(Path(tempfile.gettempdir()).glob("indexpilot-unsure-*"))


@pytest.mark.parametrize("version", [180000, 150000])
async def test_the_roles_of_the_shadow_have_no_power_over_the_machine(version: int) -> None:
    require(version == 180000 or DEBIAN_15.exists(), "postgresql-15")
    server = ShadowServer()
    try:
        await server.warm(version)
        (running,) = {id(r): r for r in server._clusters.values()}.values()
        assert running.cluster.access.startswith("peer: ")
        rows = await running.admin.execute(
            b"select r.rolname, m.rolname from pg_auth_members a join pg_roles r on r.oid = a.roleid"
            b"  join pg_roles m on m.oid = a.member where m.rolname <> 'pg_monitor'"
        )
        assert await rows.fetchall() == [], "nobody is a member of pg_execute_server_program and its like"
        rows = await running.admin.execute(
            b"select rolname from pg_roles where rolname !~ '^pg_' and oid <> 10"
            b"  and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)"
        )
        assert await rows.fetchall() == []
    finally:
        await server.close()
