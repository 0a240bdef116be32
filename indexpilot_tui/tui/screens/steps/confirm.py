"""One question on a screen of its own: stop a build, roll back, withdraw. Answered by typing, never by one key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, wrap
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.widgets.entry import Check, Entry
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step


class ConfirmScreen(StepScreen):
    """Says what will happen; `act` is called with what was typed, `done` with the change that it gives."""

    HELP_TITLE = "Confirm"
    ACTIONS: ClassVar[tuple[Action, ...]] = (BACK,)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(
        self,
        walk: Walk,
        step: Step,
        *,
        title: str,
        words: Sequence[str],
        question: str,
        button: str,
        check: Check,
        act: Callable[[str], Awaitable[Change]],
        done: Callable[[Change], None],
    ) -> None:
        super().__init__(walk)
        self.STEP = step  # type: ignore[misc]  # the step that asks
        self._title, self._words = title, tuple(words)
        self._question, self._button, self._check = question, button, check
        self._act, self._done = act, done
        self._fault: Fault | None = None

    def step_body(self) -> ComposeResult:
        view = LineView(id="words", classes="pane fill")
        view.set_title(self._title)
        yield view
        yield Entry(self._question, self._button, self._check, danger=True, id="answer")

    def on_mount(self) -> None:
        self.query_one(Entry).focus_input()
        super().on_mount()

    def draw(self) -> None:
        view = self.query_one("#words", LineView)
        width = max(20, view.line_width)
        out: list[Line] = []
        for paragraph in self._words:
            out += [*wrap(paragraph, width), ()]
        if self._fault is not None:
            out += wrap(self._fault.one_line, width, "crit")
        view.set_lines(out)

    @on(Entry.Accepted, "#answer")
    def _accepted(self, event: Entry.Accepted) -> None:
        typed = event.value

        def done(change: Change) -> None:
            self.console.hurry()
            self.app.pop_screen()
            self._done(change)

        self.work_on(lambda: self._act(typed), done, what=self._title.lower(), failed=self._failed, group="act")

    def _failed(self, fault: Fault) -> None:
        self._fault = fault
        entry = self.query_one(Entry)
        entry.release()
        entry.ask(self._question, self._button, self._check)
