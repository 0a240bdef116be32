"""Pane 4: what changed while this console was looking, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import line, wrap
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
        width = max(20, self.line_width) - 9
        lines = []
        for note in snapshot.notes:
            for number, folded in enumerate(wrap(note.text, width, note.tone)):
                lines.append(line((f"{fmt.hour(note.at)} " if number == 0 else " " * 9, "dim"), *folded))
        self.set_lines(lines or wrap("nothing has changed since this console started", width, "dim"))
