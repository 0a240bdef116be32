"""A program on a pty of its own, read as a terminal would, with what it costs this machine."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from dataclasses import dataclass, field
from typing import Self

REPLIES = ((b"\x1b[?2026$p", b"\x1b[?2026;2$y"), (b"\x1b[c", b"\x1b[?62;22c"), (b"\x1b[6n", b"\x1b[1;1R"))


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds so far and resident memory in MB of a process."""
    with open(f"/proc/{pid}/stat") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/status") as f:
        match = re.search(r"VmRSS:\s+(\d+)", f.read())
    cpu = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(match[1]) / 1024 if match else 0.0


@dataclass
class Terminal:
    """A running program. A thread answers the terminal's questions and counts what is written; `seen` keeps the last of it."""

    pid: int
    fd: int
    written: int = 0
    seen: bytearray = field(default_factory=bytearray)
    _ended: bool = False
    _thread: threading.Thread | None = None

    @classmethod
    def start(cls, command: list[str], cols: int = 120, rows: int = 40, env: dict[str, str] | None = None) -> Self:
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor"} | (env or {}))
            os.execvp(command[0], command)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        made = cls(pid, fd)
        made._thread = threading.Thread(target=made._read, daemon=True)
        made._thread.start()
        return made

    def _read(self) -> None:
        while not self._ended:
            if not select.select([self.fd], [], [], 0.05)[0]:
                continue
            try:
                got = os.read(self.fd, 65536)
            except OSError:
                return
            if not got:
                return
            self.written += len(got)
            self.seen += got
            del self.seen[:-400_000]
            for question, answer in REPLIES:
                if question in got:
                    os.write(self.fd, answer)

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def wait_for(self, pattern: bytes, seconds: float = 60.0) -> float:
        """Seconds until the pattern was written. Raises TimeoutError with the last of the screen."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            if re.search(pattern, bytes(self.seen)):
                return time.perf_counter() - began
            time.sleep(0.01)
        raise TimeoutError(f"{pattern!r} did not appear within {seconds:.0f} s: {bytes(self.seen[-2000:])!r}")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.05)
        self._ended = True
        if self._thread:
            self._thread.join(2)
        os.close(self.fd)
