"""The target could not be reached: one clear message, the remedy, and a way to try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType

from indexpilot_tui.tui.actions import Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, wrap
from indexpilot_tui.tui.screens.text import TextScreen


class TroubleScreen(TextScreen):
    """Shown instead of the first screen until the target answers."""

    HELP_TITLE = "Not connected"
    ACTIONS: ClassVar[tuple[Action, ...]] = (Action("r", "retry", "try again", "Connect again.", 0),)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    def text(self, width: int) -> Sequence[Line]:
        out: list[Line] = [line(("NOT CONNECTED", "crit"), f"  {self.console.label}"), ()]
        out += wrap(self._fault.message, width)
        if self._fault.remedy:
            out += [(), line(("what to do", "head")), *wrap(self._fault.remedy, width)]
        out += [(), line(("nothing was changed. r tries again, q quits.", "dim"))]
        return out

    def action_retry(self) -> None:
        """Back to the first screen, and connect."""
        self.app.pop_screen()
        self.console.connect()
