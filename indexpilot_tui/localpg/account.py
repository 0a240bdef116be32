"""Which user runs the server, and which directories that user can reach.

PostgreSQL refuses to run as root. As root we start it as `nobody`, which exists everywhere and owns nothing.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from indexpilot_tui.errors import LocalServerError

UNPRIVILEGED = "nobody"
# sockaddr_un.sun_path is 108 bytes on Linux, with the final NUL.
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class Account:
    """The operating-system user of a local server. `switched`: it is not the user of this process."""

    name: str
    uid: int
    gid: int
    switched: bool


def server_account() -> Account:
    """The user to run servers as: this one, or `nobody` when this one is root. Raises LocalServerError without one."""
    if os.geteuid() != 0:
        return Account(name="", uid=os.geteuid(), gid=os.getegid(), switched=False)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise LocalServerError(
            f"PostgreSQL does not run as root, and this machine has no user {UNPRIVILEGED!r} to run it as",
            remedy=f"run indexpilot as an ordinary user, or create the user {UNPRIVILEGED!r}",
        ) from None
    return Account(name=UNPRIVILEGED, uid=entry.pw_uid, gid=entry.pw_gid, switched=True)


def traversable(path: Path, account: Account) -> bool:
    """Can `account` enter `path`, judged by the mode bits of it and of all its parents (access lists are not read)."""
    for directory in (path, *path.parents):
        status = directory.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def runtime_base(account: Account, longest: int) -> Path:
    """The directory for cluster directories: TMPDIR, /tmp or /var/tmp, whichever the server's user can enter first
    and leaves `longest` bytes for the path of a socket below it. Raises LocalServerError when none does."""
    reasons: list[str] = []
    for candidate in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - mkdtemp below it
        path = Path(candidate).resolve()
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            reasons.append(f"{path} is not a directory that can be written")
        elif len(os.fsencode(path)) + 1 + longest > SOCKET_PATH_LIMIT:
            reasons.append(f"{path} is too long for a socket path (limit {SOCKET_PATH_LIMIT} bytes)")
        elif account.switched and not traversable(path, account):
            reasons.append(f"{path} cannot be entered by {account.name}")
        else:
            return path
    raise LocalServerError(
        "no directory for a local PostgreSQL: " + "; ".join(reasons),
        field="TMPDIR",
        value=os.environ.get("TMPDIR"),
        remedy="set TMPDIR to a short path that every user may enter, such as /var/tmp",
    )
