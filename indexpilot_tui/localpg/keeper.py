"""The process that keeps one local server, and ends it when its owner is gone.

Started by `LocalCluster.start` as `python -I -S keeper.py` in a session of its own, so a hang-up or Ctrl-C of the
terminal does not reach it. Standard input is a pipe from the owner: its first line is the order (JSON), its end means
that the owner is gone, however it went. Standard output carries lines of JSON: the result of the start and, if the
server then ends by itself, its last words.
Standard library only, and quick to start: no import of our own package.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def _sibling(name: str) -> ModuleType:
    """A module beside this file, by its path: run as a script in isolated mode, this one has no package."""
    spec = importlib.util.spec_from_file_location(f"localpg_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is missing beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


confinement, relfiles = _sibling("confinement"), _sibling("relfiles")

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # linux/prctl.h
_QUIT_SECONDS = 8.0  # the server's own limit before it kills its children is 5 s (SIGKILL_CHILDREN_AFTER_SECS)
TAIL_LINES = 15
TAIL_BYTES = 8_000  # as JSON at most six times that: below the 64 KiB that a pipe holds, so telling never blocks
_STATE_BYTES = 16_384  # postmaster.pid has eight short lines
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The server did not come up; `stage` is initdb, start or files."""

    def __init__(self, stage: str, text: str) -> None:
        self.stage = stage
        super().__init__(text)


class OwnerGoneError(Exception):
    """The owner's end of the pipe is closed, or we were told to stop."""


class Keeper:
    """One cluster directory, its lock, and the server in it."""

    def __init__(self, order: Mapping[str, Any], wakeup: int) -> None:
        self.order = order
        self.wakeup = wakeup
        self.told_to_stop = False
        self.server: subprocess.Popen[bytes] | None = None
        self.files = 0  # process id of the one that handles relation files
        self.lock = -1
        self.directory = Path(tempfile.mkdtemp(prefix=order["prefix"], dir=order["base"]))
        self.log = self.directory / "log"
        self.folders = (self.directory / "data", self.directory / "s")
        self.confinement: str = confinement.status() if order["confined"] else "none: not asked for"

    @property
    def confined(self) -> bool:
        """Will the server run under Landlock? Where it should and the kernel then refuses, nothing is started."""
        return not self.confinement.startswith("none")

    def prepare(self) -> None:
        """The lock first: a directory without one may be swept. Then the two folders of the server's user."""
        fresh = self.directory / "lock.new"
        self.lock = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        fresh.rename(self.directory / "lock")
        uid, gid = self.order["uid"], self.order["gid"]
        for folder in self.folders:
            folder.mkdir(mode=0o700)
            if uid is not None:
                os.chown(folder, uid, gid)
        if uid is not None:
            # The server's user must pass through; it can neither list nor change it. With a group of its own nobody else
            # does, not even while the folder belongs to the maker.
            os.chown(self.directory, 0, gid if self.order["own"] else 0)
            self.directory.chmod(0o710 if self.order["own"] else 0o711)
            os.chown(self.directory / "data", self.order["maker"], gid)

    def spawn(self, argv: list[str], rules: list[tuple[int, Path | str]], uid: int | None) -> subprocess.Popen[bytes]:
        """Start a program as the user `uid`, confined to `rules` where the kernel can; it gets SIGQUIT from the kernel
        when this process dies. Raises OSError and SubprocessError: what cannot be confined is not started."""
        keeper = os.getpid()
        ruleset = confinement.ruleset(rules) if self.confined else -1

        def confine_and_die_with_keeper() -> None:
            # After the change of user, which would clear it. The keeper may have died just before: look again.
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
            if os.getppid() != keeper:
                os._exit(1)
            if ruleset >= 0:
                confinement.restrict(ruleset)

        switch: dict[str, Any] = {}
        if uid is not None:
            switch = {"user": uid, "group": self.order["gid"], "extra_groups": []}
        environment = {"PATH": self.order["bindir"] + ":/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        try:
            with open(self.log, "ab") as log:
                return subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=environment,
                    umask=0o077, preexec_fn=confine_and_die_with_keeper, **switch,  # noqa: PLW1509 - no threads here
                )  # fmt: skip
        finally:
            if ruleset >= 0:
                os.close(ruleset)

    def fork(self, folder: Path, descriptor: int, work: Callable[[], None]) -> int:
        """Run `work` in a process that is the server's user, can touch `folder` only, keeps `descriptor` only, and ends
        with this one. Returns its id; its exit status is the errno of what went wrong."""
        ruleset = confinement.ruleset([(confinement.WRITE, folder)]) if self.confined else -1
        keeper, pid = os.getpid(), os.fork()
        if pid != 0:
            if ruleset >= 0:
                os.close(ruleset)
            return pid
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_STOP_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            uid, gid = self.order["uid"], self.order["gid"]
            if uid is not None:
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no debugger of that user's either
            if os.getppid() != keeper:
                os._exit(1)
            if ruleset >= 0:
                confinement.restrict(ruleset)
            # The lock and the owner's pipes are not its own: held open here they would outlive the keeper.
            os.closerange(0, max(descriptor, 0))
            os.closerange(descriptor + 1, 1 << 20)
            work()
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)

    def wait(self, process: subprocess.Popen[bytes], seconds: float | None, done: Callable[[], bool]) -> bool:
        """Wait until `process` ends or `done()` holds, whichever is first. False when `seconds` passed without either.

        Raises OwnerGoneError as soon as the owner is gone or a stop signal came.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        poller = select.poll()
        poller.register(0, select.POLLIN | select.POLLHUP)
        poller.register(self.wakeup, select.POLLIN)
        while True:
            if process.poll() is not None or done():
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            # Without a deadline only events matter; with one the server's state file is looked at every 5 ms.
            for descriptor, _ in poller.poll(None if deadline is None else 5):
                if descriptor == 0 and os.read(0, 4096) == b"":
                    raise OwnerGoneError
                if descriptor == self.wakeup and any(s in _STOP_SIGNALS for s in os.read(self.wakeup, 4096)):
                    raise OwnerGoneError

    def initdb(self) -> None:
        """Make the cluster and write its settings. Raises StartError."""
        data, bindir = self.directory / "data", Path(self.order["bindir"])
        rules = confinement.for_initdb(bindir, self.folders)
        self.server = self.spawn([f"{bindir}/initdb", "-D", str(data), *self.order["initdb"]], rules, self.order["maker"])
        ended = self.wait(self.server, float(self.order["timeout"]), lambda: False)
        if not ended or self.server.returncode != 0:
            raise StartError("initdb", self.tail() if ended else "initdb took too long")
        self.server = None
        if self.order["uid"] is not None:
            self.give_away(data)
        lines = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in self.settings().items())

        def configure() -> None:
            _write(data / "postgresql.conf", lines, os.O_APPEND)
            for name, text in self.order["authentication"].items():
                _write(data / name, text, os.O_TRUNC)

        _, status = os.waitpid(self.fork(data, -1, configure), 0)
        if status != 0:
            why = os.strerror(os.waitstatus_to_exitcode(status))
            raise StartError("initdb", f"its settings could not be written: {why}")

    def give_away(self, data: Path) -> None:
        """What initdb made, from its user to the server's. No link is followed."""
        uid, gid = self.order["uid"], self.order["gid"]
        for _, folders, files, descriptor in os.fwalk(data):
            for name in (*folders, *files):
                os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
        os.chown(data, uid, gid, follow_symlinks=False)

    def serve_files(self) -> None:
        """Fork the process that makes and reads relation files for the owner, on the socket that came with the order."""
        descriptor, base = int(self.order["files"]), self.directory / "data" / "base"
        self.files = self.fork(base, descriptor, lambda: relfiles.serve(descriptor, base))
        os.close(descriptor)

    def settings(self) -> dict[str, str]:
        """The order's settings and, above them, those that keep the server private."""
        # Shared memory lies in the data directory: the server needs no other place.
        confined = {"dynamic_shared_memory_type": "mmap", "shared_memory_type": "mmap"} if self.confined else {}
        return {
            **self.order["settings"],
            **confined,
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory / "s"),
            "unix_socket_permissions": "0700",
            "port": str(self.order["port"]),
            "logging_collector": "off",
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it says that it is ready. Raises StartError."""
        data = self.directory / "data"
        state = data / "postmaster.pid"

        def ready() -> bool:
            # Line 8 of postmaster.pid is the state (src/include/utils/pidfile.h, PostgreSQL 10 and newer).
            try:
                lines = relfiles.read_regular(state, _STATE_BYTES).decode("ascii", "replace").split("\n")
            except FileNotFoundError:
                return False
            return len(lines) > 7 and lines[7].strip() == "ready"

        bindir = Path(self.order["bindir"])
        self.server = self.spawn(
            [f"{bindir}/postgres", "-D", str(data)], confinement.for_server(bindir, self.folders), self.order["uid"]
        )
        if not self.wait(self.server, float(self.order["timeout"]), ready):
            raise StartError("start", "the server took too long to come up\n" + self.tail())
        if self.server.poll() is not None:
            raise StartError("start", self.tail())
        return self.server

    def tail(self) -> str:
        """The last lines of the server's log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).decode("utf-8", "replace").rstrip().split("\n")
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])

    def clean(self) -> None:
        """Stop the server at once (nothing in it is worth a checkpoint) and remove the directory."""
        if self.files:
            os.kill(self.files, signal.SIGKILL)  # our own child, not waited for yet: the id is still its own
            os.waitpid(self.files, 0)
            self.files = 0
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGQUIT)
            try:
                self.server.wait(_QUIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _quoted(value: str) -> str:
    """For a single-quoted value in postgresql.conf (guc-file.l: doubled quotes, backslash escapes)."""
    return value.replace("\\", "\\\\").replace("'", "''")


def _write(path: Path, text: str, how: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | how)
    left = memoryview(text.encode())
    while left:
        left = left[os.write(file, left) :]
    os.close(file)


def _read_order() -> dict[str, Any]:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, 1)  # byte by byte: the rest of the pipe is only ever its end
        if not chunk:
            raise OwnerGoneError
        line += chunk
    order: dict[str, Any] = json.loads(line)
    return order


def _say(answer: Mapping[str, object]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _listen_for_signals() -> int:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # SIGHUP is heard and ignored: a closed terminal is not our end, the owner's pipe is.
    for number in (*_STOP_SIGNALS, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def main() -> int:
    """Run one cluster from the order on standard input to its end. Exit status 1 when it did not start."""
    wakeup = _listen_for_signals()
    os.chdir("/")
    os.umask(0o077)
    keeper: Keeper | None = None
    try:
        keeper = Keeper(_read_order(), wakeup)
        keeper.prepare()
        keeper.initdb()
        keeper.serve_files()
        server = keeper.start()
        _say({"directory": str(keeper.directory), "files": keeper.files, "confinement": keeper.confinement})
        keeper.wait(server, None, lambda: False)  # until the server ends by itself or the owner is gone
        _say({"ended": keeper.tail()})
    except (OwnerGoneError, BrokenPipeError):
        return 0
    except (StartError, OSError, subprocess.SubprocessError) as error:
        tail = keeper.tail() if keeper is not None and not isinstance(error, StartError) else ""
        stage = error.stage if isinstance(error, StartError) else "files"
        if keeper is not None:
            keeper.clean()
            keeper = None
        with contextlib.suppress(BrokenPipeError):  # nobody left to tell
            _say({"stage": stage, "error": f"{error}\n{tail}".strip()})
        return 1
    finally:
        if keeper is not None:
            keeper.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
