"""What a console costs before it is useful: first frame, first data, import time, memory, bytes, CPU.

    python -m tests.bench.first_paint [--cols 120] [--rows 40] [--runs 3]

The demo console runs on a pty of its own and is read like a terminal would; its time counts from exec and includes making
the demo's server and data. A second console then opens on a running demo server, as it would on a real target.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass

from indexpilot_tui.demo import Demo

FRAME = re.compile(rb"1 Hotspots")
DATA = re.compile(rb"FROM shop\.|SELECT count|SELECT id")
REPLIES = ((b"\x1b[?2026$p", b"\x1b[?2026;2$y"), (b"\x1b[c", b"\x1b[?62;22c"), (b"\x1b[6n", b"\x1b[1;1R"))


@dataclass
class Start:
    frame_s: float
    data_s: float
    rss_mb: float
    bytes_per_s: float
    cpu_s_per_min: float


def _usage(pid: int) -> tuple[float, float]:
    with open(f"/proc/{pid}/stat") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/status") as f:
        match = re.search(r"VmRSS:\s+(\d+)", f.read())
    cpu = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(match[1]) / 1024 if match else 0.0


def start_console(command: list[str], cols: int, rows: int, settle_s: float = 3.0, watch_s: float = 10.0) -> Start:
    """Run one console until it has shown data, watch it for a while, end it."""
    began = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    seen, frame, data, total, mark, cpu = b"", 0.0, 0.0, 0, 0, 0.0
    end = began + 60
    while (now := time.perf_counter()) < end:
        if data and not mark and now > began + data + settle_s:
            mark, cpu, end = total, _usage(pid)[0], now + watch_s
        if not select.select([fd], [], [], 0.02)[0]:
            continue
        got = os.read(fd, 65536)
        total += len(got)
        for question, answer in REPLIES:
            if question in got:
                os.write(fd, answer)
        if not data:
            seen += got
            frame = frame or (time.perf_counter() - began if FRAME.search(seen) else 0.0)
            data = time.perf_counter() - began if DATA.search(seen) else 0.0
    used, rss = _usage(pid)
    os.kill(pid, signal.SIGTERM)
    while True:
        try:
            if not os.read(fd, 65536):
                break
        except OSError:
            break
    os.waitpid(pid, 0)
    os.close(fd)
    if not data:
        raise RuntimeError("the console showed no data within a minute")
    return Start(frame, data, rss, (total - mark) / watch_s, (used - cpu) / watch_s * 60)


def import_seconds(module: str) -> float:
    """CPU-warm import time of a module in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def show(name: str, runs: list[Start]) -> str:
    def median(field: str) -> float:
        return statistics.median(getattr(run, field) for run in runs)

    return (
        f"| {name} | {median('frame_s'):.2f} s | {median('data_s'):.2f} s | {median('rss_mb'):.0f} MB "
        f"| {median('bytes_per_s') / 1000:.1f} kB/s | {median('cpu_s_per_min'):.1f} s/min |"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cols", type=int, default=120)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    base = [sys.executable, "-m", "indexpilot_tui"]
    print(f"| {args.cols}x{args.rows}, median of {args.runs} | first frame | first data | memory | terminal | CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(show("`indexpilot --demo`", [start_console([*base, "--demo"], args.cols, args.rows) for _ in range(args.runs)]))
    async with await Demo.start() as demo:
        target = [demo.operator_conninfo, "--environment", "development"]
        runs = [await asyncio.to_thread(start_console, [*base, *target], args.cols, args.rows) for _ in range(args.runs)]
    print(show("console on a running server", runs))
    for module in ("indexpilot_tui.tui.app", "indexpilot_tui.cli.main", "indexpilot_tui.check.run"):
        print(f"import {module}: {statistics.median(import_seconds(module) for _ in range(5)) * 1000:.0f} ms")


if __name__ == "__main__":
    asyncio.run(main())
