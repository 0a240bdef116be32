"""Is this a terminal that the console can be shown on? Asked before Textual is imported."""

from __future__ import annotations

import os
import sys

from indexpilot_tui.errors import UsageError

MIN_COLUMNS, MIN_ROWS = 80, 24
_INCAPABLE = ("", "dumb", "unknown")


def check_terminal(*, demo: bool = False) -> None:
    """Refuse a terminal on which the console would be unreadable.

    Raises UsageError (one message, with the remedy) when stdin or stdout is no terminal, when TERM names one that cannot
    move its cursor (Textual would write full RGB at it), or when it is smaller than 80 columns x 24 rows.
    """
    instead = f"`indexpilot {'--demo ' if demo else ''}--check` tells the same findings as text"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the console needs a terminal; standard input or output is not one",
            remedy=f"do not redirect it (ssh -t where it is started over SSH), or: {instead}",
        )
    term = os.environ.get("TERM", "")
    if term in _INCAPABLE:
        raise UsageError(
            "this terminal cannot show a full screen", field="TERM", value=term,
            remedy=f"set TERM to what the terminal is, e.g. TERM=xterm-256color, or: {instead}",
        )  # fmt: skip
    size = os.get_terminal_size(sys.stdout.fileno())
    if size.columns < MIN_COLUMNS or size.lines < MIN_ROWS:
        raise UsageError(
            f"the terminal is too small; the console needs {MIN_COLUMNS}x{MIN_ROWS}",
            field="size",
            value=f"{size.columns}x{size.lines}",
            remedy=f"make it larger, or: {instead}",
        )
