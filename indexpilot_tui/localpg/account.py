"""Which user runs the server, who may connect to it, and which directories the server's user can reach.

PostgreSQL refuses to run as root. As root each server gets a user id of its own, which nothing else on the machine has;
where the ids of this container do not reach that far it is `nobody`, which exists everywhere and owns nothing.
"""

from __future__ import annotations

import os
import pwd
import random
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from indexpilot_tui.errors import LocalServerError

UNPRIVILEGED = "nobody"
# sockaddr_un.sun_path is 108 bytes on Linux, with the final NUL.
SOCKET_PATH_LIMIT = 107


# Ids that nobody hands out: one that systemd leaves alone (its own end at 0x6fffffff), else that of its dynamic users.
OWN_IDS = (range(2_100_000_000, 2_147_000_000), range(61_184, 65_520))


@dataclass(frozen=True)
class Account:
    """The operating-system user of a local server. `switched`: it is not the user of this process. `maker`: the user id
    that initdb runs as, which wants one with a name; its group is `gid`, which is the server's alone where `own` holds."""

    name: str
    uid: int
    gid: int
    switched: bool
    maker: int | None = None
    own: bool = False


def server_account() -> Account:
    """The user to run a server as: this one, or when this one is root a new id (`nobody` where there is none to be had).
    Raises LocalServerError without one."""
    if os.geteuid() != 0:
        return Account(name="", uid=os.geteuid(), gid=os.getegid(), switched=False)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise LocalServerError(
            f"PostgreSQL does not run as root, and this machine has no user {UNPRIVILEGED!r} to run it as",
            remedy=f"run indexpilot as an ordinary user, or create the user {UNPRIVILEGED!r}",
        ) from None
    own = unused_id()
    if own is None:
        return Account(name=UNPRIVILEGED, uid=entry.pw_uid, gid=entry.pw_gid, switched=True, maker=entry.pw_uid)
    return Account(name=f"the user id {own}", uid=own, gid=own, switched=True, maker=entry.pw_uid, own=True)


def is_own(uid: int) -> bool:
    """Is this one of the ids that only servers of ours have?"""
    return any(uid in ids for ids in OWN_IDS)


def unused_id() -> int | None:
    """An id of user and group without a name and without a process. None where this user namespace has none."""
    for ids in OWN_IDS:
        if all(_mapped(ids, kind) for kind in ("uid_map", "gid_map")):
            taken = set(processes())
            for _ in range(100):
                found = random.choice(ids)  # noqa: S311 - to be different, not to be secret
                if found not in taken and _name_of(found) is None:
                    return found
    return None


def _mapped(ids: range, kind: str) -> bool:
    """Does this process's user namespace have all of them (user_namespaces(7))?"""
    try:
        lines = Path(f"/proc/self/{kind}").read_text("ascii").splitlines()
    except OSError:
        return False
    blocks = [(int(first), int(count)) for first, _outside, count in (line.split() for line in lines)]
    return any(first <= ids.start and ids.stop <= first + count for first, count in blocks)


def processes() -> dict[int, list[int]]:
    """The real user ids in use and their process ids. Of /proc/PID/status: the owner of /proc/PID may be root instead."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                status = Path(entry.path, "status").read_text("utf-8", "replace")
            except OSError:
                continue  # ended in between
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if "Uid" in fields and not fields["State"].startswith("Z"):  # a zombie only waits for its parent
                found.setdefault(int(fields["Uid"].split()[0]), []).append(int(entry.name))
    return found


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def console_name() -> str | None:
    """The name by which peer authentication knows this process; None when its user has none that a map can hold."""
    name = _name_of(os.geteuid())
    usable = name is not None and name.isprintable() and name.strip() == name and name[:1] not in ("", "/", "+", "@")
    return name if usable else None


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
