"""Starting our own programs a thousand times without loading them a thousand times.

A start of Python costs our programs half a second of processor, nearly all of it imports, and the tests start more than nine
hundred. Here one process a test worker has imported everything and forks for each start: arguments, environment, working
directory and the three standard streams are the caller's; what runs is the program's own `main`, in a process of its own that
can be signalled and killed. Tests about starts and ends themselves (the walk, signals, secrets, the demo) start Python.

A caller runs what `python()` names, a small script that stands where `sys.executable` would: `[python(), "-m", MODULE, ...]`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLD = "INDEXPILOT_TESTS_COLD"  # set where files change while a test run goes on: each start then reads them
PROGRAM = """#!{python} -IS
import array, os, signal, socket, sys
if sys.argv[1] != "-m": os.execv({python!r}, [{python!r}, *sys.argv[1:]])
s = socket.socket(socket.AF_UNIX)
s.connect({address!r})
def text(*parts): return b"".join(os.fsencode(p) + b"\\0" for p in parts)
arguments, environment = text(*sys.argv[1:]), text(*(f"{{k}}={{v}}" for k, v in os.environ.items()))
head = b"%d %d\\n" % (len(arguments), len(environment)) + os.fsencode(os.getcwd()) + b"\\n"
s.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
s.sendall(arguments + environment)
for fd in 0, 1, 2: os.close(fd)
answer = s.makefile("rb")
pid = int(answer.readline() or 0)
for n in signal.SIGTERM, signal.SIGINT, signal.SIGHUP: signal.signal(n, lambda n, _: os.kill(pid, n))
status = int(answer.readline() or 255)
if status < 0: signal.signal(-status, signal.SIG_DFL); os.kill(os.getpid(), -status)
os._exit(status)
"""
PRELOADED = (
    "indexpilot_tui.engine.changes.executor", "indexpilot_tui.engine.changes.drive", "tests.faults.hooked",
    "indexpilot_tui.cli.main", "indexpilot_tui.cli.changes", "indexpilot_tui.cli.audit", "indexpilot_tui.cli.bypass",
    "indexpilot_tui.cli.running", "indexpilot_tui.check", "sqlglot.dialects.postgres", "structlog",
)  # fmt: skip


class Warm:
    """The process that forks. `program`: the script."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ixp-warm-"))
        address = self.folder / "s"
        self.program = self.folder / "python"
        self.program.write_text(PROGRAM.format(python=sys.executable, address=str(address)))
        self.program.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(address), str(self.program)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()  # which ends it
        self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def python() -> str:
    """What to run instead of `sys.executable`. The process behind it is started once and ends with this one."""
    if COLD in os.environ:
        return sys.executable
    made = Warm()
    atexit.register(made.close)
    return str(made.program)


class WarmSys:
    """In place of `sys` where the engine starts executors."""

    @property
    def executable(self) -> str:
        return python()


def _serve(address: str, program: str) -> None:
    import gc
    import importlib
    import select

    for module in PRELOADED:
        importlib.import_module(module)
    sys.executable = program  # what is started from there is started so too
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it goes when the worker goes
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([door, 0], [], [])
            if 0 in ready:
                return
            conn, _ = door.accept()
            if os.fork() == 0:
                door.close()
                os._exit(_watch(conn))
            conn.close()


def _watch(conn: socket.socket) -> int:
    """Fork the program, tell its process id and, at its end, its status. A caller that is gone takes it along."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, fds, _, _ = socket.recv_fds(conn, 65536, 3)
    stream = conn.makefile("rb")
    while head.count(b"\n") < 2:
        head += stream.read(1)
    sizes, folder, rest = head.split(b"\n", 2)
    wanted = sum(int(n) for n in sizes.split())
    body = rest + (stream.read(wanted - len(rest)) or b"")
    cut = int(sizes.split()[0])
    arguments = [os.fsdecode(part) for part in body[:cut].split(b"\0")[:-1]]
    environment = dict(os.fsdecode(part).split("=", 1) for part in body[cut:].split(b"\0")[:-1])
    pid = os.fork()
    if pid == 0:
        conn.close()
        _become(arguments, environment, os.fsdecode(folder), fds)
    for fd in (*fds, 0):
        os.close(fd)
    conn.sendall(b"%d\n" % pid)
    process = os.pidfd_open(pid)
    ready, _, _ = select.select([process, conn], [], [])
    if process not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        conn.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


def _become(arguments: list[str], environment: dict[str, str], folder: str, fds: list[int]) -> None:
    """Be the program that the caller asked for. Never returns."""
    import runpy
    import time
    import warnings

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - for good
    sys.stderr = open(2, "w", errors="backslashreplace")  # noqa: SIM115
    _, module, *rest = arguments
    code = 1
    try:
        sys.argv = [module, *rest]
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # that it was imported before
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - the end of a program
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
