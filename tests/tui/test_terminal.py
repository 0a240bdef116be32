"""Terminals that are too small or too simple, and the state in which we leave them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.tui.stage import press, settle, stage

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.tui.terminal import check_terminal
try:
    check_terminal()
except IndexPilotError as exc:
    print(exc)
    raise SystemExit(exc.exit_status)
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.tui.app import run_console
from indexpilot_tui.tui.theme_files import load_themes
from tests.tui.frozen import FrozenEngine
engine = FrozenEngine()
async def opened(_):
    return engine
status = run_console(opened, settings=Settings(), themes=load_themes(), target_label="orders")
print("closed", engine.closed, "status", status)
raise SystemExit(status)
"""


class Child:
    """The console in a pseudo-terminal."""

    def __init__(self, columns: int = 100, rows: int = 30, term: str = "xterm-256color") -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, "-c", SCRIPT], {**os.environ, "TERM": term})
        self.seen = b""

    def read_until(self, mark: bytes, seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while mark not in self.seen and time.monotonic() < end:
            if not select.select([self.fd], [], [], 0.2)[0]:
                continue
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:  # Linux: EIO when the child has closed its side
                break
        return mark in self.seen

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)])
def test_a_signal_restores_the_terminal_and_closes_the_engine(number: signal.Signals, status: int) -> None:
    child = Child()
    assert child.read_until(b"Hotspots")
    assert child.read_until(b"THROTTLE")
    os.kill(child.pid, number)
    assert child.read_until(b"closed True")
    assert child.status() == status
    assert b"\x1b[?1049h" in child.seen
    assert child.seen.rindex(b"\x1b[?1049l") > child.seen.rindex(b"\x1b[?1049h")
    assert b"\x1b[?1003h" not in child.seen  # no mouse unless asked for


@pytest.mark.parametrize(
    ("columns", "rows", "term", "words"),
    [(60, 15, "xterm-256color", b"60x15"), (79, 24, "xterm", b"79x24"), (100, 30, "dumb", b"TERM")],
)
def test_an_unfit_terminal_is_refused_with_the_remedy(columns: int, rows: int, term: str, words: bytes) -> None:
    child = Child(columns, rows, term)
    assert child.read_until(b"indexpilot --check")
    assert words in child.seen
    assert b"Traceback" not in child.seen
    assert b"\x1b[" not in child.seen
    assert child.status() == 64


async def test_made_too_small_while_running_and_large_again() -> None:
    on = stage()
    async with on.app.run_test(size=(100, 30)) as pilot:
        await press(pilot, "2")
        await pilot.resize_terminal(60, 15)
        await settle(pilot)
        assert "60x15 is too small" in on.text("#too-small")
        assert not on.app.screen.query_one("#body").display
        await pilot.resize_terminal(120, 40)
        await settle(pilot)
        assert on.app.screen.query_one("#body").display
        assert on.app.screen.focused is on.app.screen.query_one("#health")  # keys go where they went before


async def test_nothing_is_drawn_on_a_covered_screen() -> None:
    on = stage()
    async with on.app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        below = on.app.screen
        drawn: list[str] = []
        below.live = lambda snapshot: drawn.append("live")  # type: ignore[method-assign,assignment]
        await press(pilot, "L")
        drawn.clear()
        for _ in range(3):
            on.app._tick()
            await settle(pilot)
        assert drawn == []
        await press(pilot, "escape")
        assert drawn


async def test_only_the_lines_that_changed_are_repainted() -> None:
    on = stage()
    async with on.app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        table = on.app.screen.query_one("#hotspots")
        painted: list[int] = []
        original = table.refresh_line  # type: ignore[attr-defined]
        table.refresh_line = lambda y: (painted.append(y), original(y))  # type: ignore[attr-defined]
        on.app._tick()
        assert painted == []
        await press(pilot, "down")
        assert set(painted) == {1, 2}
