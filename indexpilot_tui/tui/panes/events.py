"""Pane 4: what changed while this console was looking, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import line
from indexpilot_tui.tui.widgets.lineview import LineView

if TYPE_CHECKING:
    from indexpilot_tui.tui.feed import Snapshot


class EventsPane(LineView):
    """Gates that opened or closed, changes that moved on, readings that failed."""

    def __init__(self) -> None:
        super().__init__(id="events")
        self.set_title("4 Events")

    def show(self, snapshot: Snapshot) -> None:
        """Draw the notes of this session."""
        lines = [line((f"{fmt.hour(note.at)} ", "dim"), (note.text, note.tone)) for note in snapshot.notes]
        self.set_lines(lines or [line(("nothing has changed since this console started", "dim"))])
