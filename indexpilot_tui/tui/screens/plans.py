"""The plans of one statement as the target would make them now: the generic one, and for values of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, rule, wrap
from indexpilot_tui.tui.plandiff import tree_lines
from indexpilot_tui.tui.screens.text import TextScreen


class PlansScreen(TextScreen):
    """Asked for when it is opened and when `x` is pressed, never by itself: planning takes the server's time."""

    HELP_TITLE = "Plans"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("x", "again", "again", "Ask the server again.", 1),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, queryid: int) -> None:
        super().__init__()
        self._queryid = queryid
        self._plans: tuple[tuple[str, dict[str, Any]], ...] | None = None
        self._why = ""

    def heading(self) -> str:
        return f"plans of statement {self._queryid} · estimated, nothing is executed"

    def on_mount(self) -> None:
        super().on_mount()
        self.action_again()

    def text(self, width: int) -> Sequence[Line]:
        out: list[Line] = []
        for label, plan in self._plans or ():
            out += [rule(label, width), *tree_lines(plan, width), ()]
        if self._why:
            out += wrap(f"not planned: {self._why}", width, "warn")
        return out or [line(("asking the server …", "dim"))]

    def action_again(self) -> None:
        """Ask now."""
        self.work_on(lambda: self.engine.plans(self._queryid), self._take, what="planning", failed=self._failed)

    def _take(self, answer: tuple[tuple[tuple[str, dict[str, Any]], ...], str]) -> None:
        self._plans, self._why = answer
        self.redraw()

    def _failed(self, fault: Fault) -> None:
        self._why = fault.one_line
        self.redraw()
