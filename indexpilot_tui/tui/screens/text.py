"""A screen of text that folds itself to the width: details, help, logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.lines import Line
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.widgets.lineview import LineView


class TextScreen(ConsoleScreen):
    """Subclasses give `heading` and `text`."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (BACK,)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def body(self) -> ComposeResult:
        view = LineView(id="text", classes="pane fill")
        view.set_title(self.heading())
        yield view

    def on_mount(self) -> None:
        self.query_one("#text").focus()
        super().on_mount()

    def heading(self) -> str:
        """The title in the frame."""
        return self.HELP_TITLE

    def text(self, width: int) -> Sequence[Line]:
        """The lines, folded to `width` cells; each screen of this kind has its own."""
        del width
        return []

    def redraw(self) -> None:
        """Fold and draw."""
        view = self.query_one("#text", LineView)
        view.set_title(self.heading())
        view.set_lines(self.text(max(20, view.line_width)))

    def live(self, snapshot: object) -> None:  # noqa: ARG002 - subclasses read what they need
        self.redraw()

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.call_after_refresh(self.redraw)
