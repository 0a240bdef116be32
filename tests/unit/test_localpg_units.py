"""Pure parts of localpg: where clusters may live, what is swept, how errors read."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster, binaries, leftovers
from indexpilot_tui.localpg.account import Account, runtime_base, server_account, traversable
from indexpilot_tui.localpg.cluster import _initdb_options, _start_error
from indexpilot_tui.localpg.keeper import _quoted

STRANGER = Account(name="stranger", uid=54321, gid=54321, switched=True)


def _stale(base: Path, name: str, *, age: float = 3600.0, lock: bool = True) -> Path:
    directory = base / name
    (directory / "data").mkdir(parents=True)
    if lock:
        (directory / "lock").touch()
    os.utime(directory, (time.time() - age, time.time() - age))
    return directory


def test_a_private_parent_cannot_be_traversed_by_another_user(tmp_path: Path) -> None:
    inner = tmp_path / "home" / "venv"
    inner.mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    assert not traversable(inner, STRANGER)
    assert traversable(Path("/usr"), STRANGER)


def test_the_owner_may_traverse_its_own_private_directory(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    me = Account(name="", uid=os.geteuid(), gid=os.getegid(), switched=False)
    assert traversable(private, me)


def test_a_temporary_directory_too_long_for_a_socket_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("d" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert runtime_base(server_account(), 30) in (Path("/tmp"), Path("/var/tmp"))


def test_no_directory_that_fits_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalServerError) as caught:
        runtime_base(server_account(), 107)
    assert "too long for a socket path" in str(caught.value)
    assert "TMPDIR" in str(caught.value)


def test_sweep_takes_only_directories_whose_lock_is_free(tmp_path: Path) -> None:
    stale = _stale(tmp_path, "indexpilot-demo-abcdefgh")
    held = _stale(tmp_path, "indexpilot-demo-heldheld")
    foreign = _stale(tmp_path, "indexpilot-notes")
    other = _stale(tmp_path, "somebody-demo-abcdefgh")
    with open(held / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert leftovers.sweep(tmp_path) == [stale]
        assert not stale.exists()
        assert held.exists()
        assert foreign.exists()
        assert other.exists()
    assert leftovers.sweep(tmp_path) == [held]


def test_a_directory_without_a_lock_is_given_time_to_get_one(tmp_path: Path) -> None:
    newborn = _stale(tmp_path, "indexpilot-demo-newborn_", age=1.0, lock=False)
    old = _stale(tmp_path, "indexpilot-demo-oldoldol", lock=False)
    assert leftovers.sweep(tmp_path) == [old]
    assert newborn.exists()


def test_a_directory_with_other_content_is_not_ours_to_remove(tmp_path: Path) -> None:
    directory = _stale(tmp_path, "indexpilot-demo-abcdefgh", lock=False)
    (directory / "thesis.txt").write_text("years of work")
    os.utime(directory, (0, 0))
    assert leftovers.sweep(tmp_path) == []
    assert (directory / "thesis.txt").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    directory = _stale(tmp_path, "indexpilot-demo-abcdefgh", lock=False)
    (directory / "lock").symlink_to("/dev/null")
    assert leftovers.sweep(tmp_path) == []
    assert directory.exists()


def test_a_process_that_is_no_server_of_ours_is_not_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    leftovers.stop_orphan(data)  # would have killed this very process
    (data / "postmaster.pid").write_text("not a number\n")
    leftovers.stop_orphan(data)


def test_the_checksum_option_follows_the_version() -> None:
    assert "--no-data-checksums" in _initdb_options(180006, False)
    assert "--no-data-checksums" not in _initdb_options(150018, False)
    assert "--data-checksums" in _initdb_options(150018, True)
    assert "--no-instructions" not in _initdb_options(130000, True)


def test_a_setting_value_is_quoted_for_postgresql_conf() -> None:
    assert _quoted(r"it's \n") == r"it''s \\n"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("could not extend file: No space left on device", "the disk is full"),
        ("HINT:  Check free disk space.", "the disk is full"),
        ("Unix-domain socket path too long", "path of the socket is too long"),
        ("initdb: error: invalid locale name", "locale"),
        ("something that nobody foresaw", "something that nobody foresaw"),
    ],
)
def test_a_failed_start_names_its_cause_and_keeps_the_log(said: str, cause: str) -> None:
    error = _start_error({"stage": "start", "error": said + "\x1b]0;owned\x07"}, Path("/tmp"))
    assert cause in str(error)
    assert said in str(error)
    assert "\x1b" not in str(error)
    assert error.remedy
    assert error.exit_status == 3


async def test_malformed_purposes_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="purpose"):
        await LocalCluster.start("../etc")
    with pytest.raises(ValueError, match="setting"):
        await LocalCluster.start("test", settings={"port": "1\nfsync = on"})


def test_the_wheels_programs_are_found_and_are_18_or_newer() -> None:
    bindir = binaries.embedded()
    assert (bindir / "initdb").exists()
    assert binaries.version(bindir) >= 180_000


def test_programs_that_do_not_run_are_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(LocalServerError, match="do not run"):
        binaries.resolve(Account(name="", uid=os.geteuid(), gid=os.getegid(), switched=False), tmp_path)
    broken = tmp_path / "initdb"
    broken.write_text("#!/bin/sh\necho 'no libpq' >&2; exit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LocalServerError, match="no libpq"):
        binaries.version(tmp_path)
