"""The copy of the programs for a server user that may not enter the virtual environment."""

from __future__ import annotations

import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import binaries
from indexpilot_tui.localpg.account import server_account


def test_the_copy_runs_and_is_readable_by_everybody(tmp_path: Path) -> None:
    source = binaries.embedded()
    copy = binaries.shared_copy(source, tmp_path / "cache")
    assert binaries.version(copy) == binaries.version(source)
    for path in (tmp_path / "cache").rglob("*"):
        mode = path.stat().st_mode
        assert mode & stat.S_IROTH, path
        assert not mode & stat.S_IWOTH, path
    assert not list((tmp_path / "cache").glob(".copy-*"))
    inode = copy.stat().st_ino
    assert binaries.shared_copy(source, tmp_path / "cache").stat().st_ino == inode, "copied a second time"


def test_two_that_copy_at_once_end_with_one_copy(tmp_path: Path) -> None:
    source, results, faults = binaries.embedded(), [], []

    def copy() -> None:
        try:
            results.append(binaries.shared_copy(source, tmp_path / "cache"))
        except LocalServerError as error:
            faults.append(error)

    threads = [threading.Thread(target=copy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(set(results)) == 1
    assert [entry.name[:3] for entry in (tmp_path / "cache").iterdir()] == ["pg-"]


def test_programs_below_a_private_directory_still_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root the server's user cannot enter a 0700 home, so a copy serves; as an ordinary user nothing is copied."""
    private = binaries.shared_copy(binaries.embedded(), tmp_path / "home")
    tmp_path.chmod(0o700)
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir="/tmp"))
    try:
        monkeypatch.setattr(binaries, "embedded", lambda: private)
        monkeypatch.setattr(binaries, "_cache_root", lambda: cache)
        account = server_account()
        bindir, number = binaries.resolve(account)
        assert bindir.is_relative_to(cache) == account.switched
        assert (bindir == private) == (not account.switched)
        assert number == binaries.version(private)
    finally:
        shutil.rmtree(cache)


def test_a_copy_that_another_user_could_change_is_refused(tmp_path: Path) -> None:
    copy = binaries.shared_copy(binaries.embedded(), tmp_path / "cache")
    copy.parents[2].chmod(0o777)
    with pytest.raises(LocalServerError, match="another user"):
        binaries.shared_copy(binaries.embedded(), tmp_path / "cache")
