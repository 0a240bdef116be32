"""However the console ends, the demo's server, workload and directory go with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexpilot_tui.demo import Demo

CONSOLE = """
import asyncio
from indexpilot_tui.demo import Demo

async def main():
    demo = await Demo.start()
    print(demo.cluster.directory, demo.cluster.keeper_pid, demo.workload_pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _console() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CONSOLE], stdout=subprocess.PIPE, text=True)


def _processes(directory: Path) -> list[str]:
    """Command lines of what still runs on this demo: the server, its backends, whatever names the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                cwd = os.readlink(entry / "cwd")
            except OSError:
                continue  # ended in between, or another user's
            if str(directory) in command or cwd.startswith(str(directory)):
                found.append(command)
    return found


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _left(directory: Path, pids: list[int]) -> list[str]:
    there = [str(directory)] if directory.exists() else []
    return [*there, *_processes(directory), *(str(pid) for pid in pids if not _ended(pid))]


async def _all_gone(directory: Path, pids: list[int]) -> float:
    begun = time.monotonic()
    while left := _left(directory, pids):
        assert time.monotonic() - begun < 5, left
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_a_console_that_dies_takes_everything_with_it(how: signal.Signals) -> None:
    console = _console()
    assert console.stdout is not None
    with console.stdout:
        directory, *pids = console.stdout.readline().split()
        assert len(_processes(Path(directory))) > 5, "server and clients were not there to begin with"
        console.send_signal(how)
        console.wait()
    took = await _all_gone(Path(directory), [int(pid) for pid in pids])
    print(f"console gone by {how.name}: nothing left {took:.2f} s later")


async def test_stop_leaves_nothing_and_can_be_repeated() -> None:
    demo = await Demo.start()
    directory, pids = demo.cluster.directory, [demo.cluster.keeper_pid, demo.workload_pid]
    await demo.stop()
    assert _left(directory, pids) == []
    await demo.stop()


async def test_a_workload_without_a_server_ends_by_itself() -> None:
    demo = await Demo.start()
    os.kill(demo.cluster.keeper_pid, signal.SIGTERM)
    begun = time.monotonic()
    while demo.workload_running:
        assert time.monotonic() - begun < 15
        await asyncio.sleep(0.1)
    await demo.stop()
