"""Sweep away clusters whose keeper was killed.

A cluster directory belongs to a living keeper as long as that holds the lock on its file `lock`. The kernel drops the
lock with the process, so a lock that can be taken means that the directory is a leftover. The server itself ended
with its keeper (it asked the kernel for that); should one still run, it is stopped first, with all that has its user id.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import stat
import time
from pathlib import Path

from indexpilot_tui.localpg.account import is_own, processes
from indexpilot_tui.localpg.relfiles import read_regular

PREFIX = "indexpilot-"
LOCK = "lock"
_NAME = re.compile(PREFIX + r"[a-z][a-z0-9]*-[a-z0-9_]{8}")  # mkdtemp's eight characters at the end
DATA, SOCKETS = "data", "s"
# A keeper makes its directory and takes the lock within milliseconds; a directory without a lock is left alone so long.
_NEWBORN_SECONDS = 60.0
_STATE_BYTES = 16_384  # postmaster.pid has eight short lines
_QUIT_SECONDS = 8.0  # the server's own limit before it kills its children is 5 s (SIGKILL_CHILDREN_AFTER_SECS)


def sweep(base: Path) -> list[Path]:
    """Stop and remove every stale cluster of this user below `base`; returns what was removed."""
    removed = []
    for entry in os.scandir(base):
        if _NAME.fullmatch(entry.name) and remove_if_stale(Path(entry.path)):
            removed.append(Path(entry.path))
    return removed


def remove_if_stale(directory: Path) -> bool:
    """Remove the cluster directory if it is ours and no keeper holds it. True if it is gone by our doing."""
    lock = -1
    try:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        try:
            lock = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            # A keeper that was killed in its first moments. Only what looks like a cluster of ours goes.
            ours = {entry.name for entry in os.scandir(directory)} <= {DATA, SOCKETS, "log", f"{LOCK}.new"}
            if not ours or time.time() - status.st_mtime < _NEWBORN_SECONDS:
                return False
        stop_orphan(directory / DATA)
        _stop_all(directory / SOCKETS)
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()
    except OSError:
        return False  # held by its keeper, gone in between, or (a link, another user's file) not ours to remove
    finally:
        if lock >= 0:
            os.close(lock)


def stop_orphan(data_dir: Path) -> None:
    """Stop the server of `data_dir`, if one runs: the process named in postmaster.pid, when it is a postgres whose
    working directory is that data directory. The process is held by a descriptor, so its id cannot be reused."""
    try:
        pid = int(read_regular(data_dir / "postmaster.pid", _STATE_BYTES).split(b"\n", 1)[0])
        process = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return  # never started, ended properly, long gone, or not what a server writes
    try:
        if not _is_server_of(pid, data_dir):
            return
        for what, seconds in ((signal.SIGQUIT, _QUIT_SECONDS), (signal.SIGKILL, 2.0)):
            signal.pidfd_send_signal(process, what)
            if select.select([process], [], [], seconds)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)


def _stop_all(folder: Path) -> None:
    """Stop whatever still runs as the owner of this folder of ours, if that is an id of a server's own: its processes all
    come from that server. Nobody but root can have made the folder's owner what it is."""
    try:
        uid = folder.lstat().st_uid
    except FileNotFoundError:
        return
    if os.geteuid() != 0 or not is_own(uid):
        return
    for _ in range(100):  # one of them may be starting another
        left = processes().get(uid, [])
        if not left:
            return
        for pid in left:
            try:
                process = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in processes().get(uid, []):  # still the same one, now that it cannot be replaced
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], 0.5)
            except ProcessLookupError:
                continue
            finally:
                os.close(process)


def _is_server_of(pid: int, data_dir: Path) -> bool:
    try:
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        return program.startswith("postgres") and os.path.samefile(f"/proc/{pid}/cwd", data_dir)
    except OSError:
        return False  # ended in between, or another user's process
