"""Relation files: made and read as the server's user, never through a link, never over what is there."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexpilot_tui.localpg import LocalCluster, confinement, relfiles
from indexpilot_tui.localpg.relfiles import PAGE, READ_LIMIT, SEGMENT_PAGES, RelationFiles

FILE = 3_000_000_001


@pytest.fixture
def files(tmp_path: Path) -> Iterator[RelationFiles]:
    """Of a folder of database 5, served by a thread."""
    (tmp_path / "5").mkdir()
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=relfiles.serve, args=(theirs.fileno(), tmp_path))
    thread.start()
    client = RelationFiles(ours, 0)
    yield client
    client.close()
    thread.join()
    theirs.close()


def test_files_have_their_size_and_no_content(files: RelationFiles, tmp_path: Path) -> None:
    files.write(5, FILE, b"x" * PAGE, SEGMENT_PAGES * 2 + 5)
    made = sorted((tmp_path / "5").iterdir())
    assert [p.name for p in made] == [f"{FILE}", f"{FILE}.1", f"{FILE}.2"]
    assert [p.stat().st_size for p in made] == [1 << 30, 1 << 30, 5 * PAGE]
    assert sum(p.stat().st_blocks * 512 for p in made) < 100_000
    assert {p.stat().st_mode & 0o777 for p in made} == {0o600}
    files.remove(5, FILE)
    assert list((tmp_path / "5").iterdir()) == []
    files.remove(5, FILE)
    files.write(5, FILE, b"", 0)
    assert [p.stat().st_size for p in (tmp_path / "5").iterdir()] == [0]
    files.write(5, FILE + 1, b"y" * 3 * PAGE, 1)
    assert files.read(5, FILE + 1) == b"y" * 3 * PAGE


def test_nothing_is_followed_and_nothing_written_over(files: RelationFiles, tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "5"
    victim.write_bytes(b"v" * PAGE)
    (folder / "1").symlink_to(victim)
    (folder / "2").write_bytes(b"mine")
    (folder / "3.1").symlink_to(victim)
    os.mkfifo(folder / "4")
    (tmp_path / "6").symlink_to(folder)
    (folder / "7").mkdir()
    for file, pages in ((1, 1), (2, 1), (3, SEGMENT_PAGES + 1), (4, 1), (7, 1)):
        with pytest.raises(FileExistsError):
            files.write(5, file, b"x" * PAGE, pages)
    for file in (1, 4, 7, 99):
        with pytest.raises(OSError, match=f"relation file {file}|not a plain file"):
            files.read(5, file)
    for ask in (lambda: files.write(6, 8, b"", 1), lambda: files.read(6, 2)):
        with pytest.raises(OSError, match="relation file"):
            ask()
    assert victim.read_bytes() == b"v" * PAGE
    assert (folder / "2").read_bytes() == b"mine"
    files.remove(5, 1)
    assert victim.exists(), "the link goes, not what it leads to"


def test_what_is_read_is_of_whole_pages_and_small(files: RelationFiles, tmp_path: Path) -> None:
    for name, size in (("1", PAGE + 1), ("2", READ_LIMIT + PAGE), ("3", READ_LIMIT)):
        with (tmp_path / "5" / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(OSError, match="whole page"):
        files.read(5, 1)
    with pytest.raises(OSError, match="more than"):
        files.read(5, 2)
    assert len(files.read(5, 3)) == READ_LIMIT


@pytest.mark.parametrize("said", [b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{{"])
def test_an_answer_that_is_none_ends_the_talk(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    client = RelationFiles(ours, 0)
    with theirs:
        theirs.sendall(said)
        with pytest.raises(OSError, match="does not answer"):
            client.read(5, 1)
        with pytest.raises(OSError):  # noqa: PT011 - closed
            client.read(5, 1)


async def test_a_cluster_has_a_process_for_it_that_is_the_servers_user() -> None:
    async with await LocalCluster.start("files") as cluster:
        pid, base = cluster.files.pid, cluster.data_dir / "base"
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(cluster.owner_uid)] * 4
        assert status["Gid"].split() == [str(cluster.owner_gid)] * 4
        assert status["Groups"].split() == ([] if os.geteuid() == 0 else [str(g) for g in os.getgroups()])
        assert status["NoNewPrivs"] == str(int(not cluster.confinement.startswith("none")))
        assert len(os.listdir(f"/proc/{pid}/fd")) == 2, "the socket and the folder; not the lock, not the owner's pipe"
        folder = next(base.iterdir())
        cluster.files.write(int(folder.name), FILE, b"z" * PAGE, 3)
        made = (folder / str(FILE)).stat()
        assert (made.st_uid, made.st_gid, made.st_size) == (cluster.owner_uid, cluster.owner_gid, 3 * PAGE)
        if not confinement.status().startswith("none"):
            (cluster.data_dir / "base" / "9").symlink_to(cluster.directory)
        with pytest.raises(OSError, match="relation file"):
            cluster.files.write(9, FILE, b"", 1)
        conf = cluster.data_dir / "postgresql.conf"
        assert conf.stat().st_uid == cluster.owner_uid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(OSError):  # noqa: PT011 - gone, in one of two ways
            cluster.files.read(int(folder.name), FILE)
        assert cluster.running
    assert not cluster.directory.exists()
