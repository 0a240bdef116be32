"""What the steps share: the stepper line, the walk, and going from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult

from indexpilot_tui.errors import RefusedError
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.widgets.stepbar import Step, StepBar

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import Change
    from indexpilot_tui.tui.feed import Snapshot

READ_ONLY = "read-only console: start it with --operate to change anything"


class StepScreen(ConsoleScreen):
    """A step. Steps replace each other on the stack, so leaving one always leads to where the walk began."""

    STEP: ClassVar[Step]

    def __init__(self, walk: Walk) -> None:
        super().__init__()
        self.walk_state = walk
        self._polled_at = float("-inf")

    def body(self) -> ComposeResult:
        yield StepBar(id="steps")
        yield from self.step_body()

    def step_body(self) -> ComposeResult:
        """The widgets below the stepper line."""
        yield from ()

    def live(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - steps read the change themselves
        walk = self.walk_state
        self.query_one(StepBar).show(self.STEP, walk.subject, kind=walk.kind, rolling_back=walk.rolling_back)
        self.draw()

    def draw(self) -> None:
        """Draw the step."""

    def go(self, step: Step) -> None:
        """To another step of the same walk."""
        from indexpilot_tui.tui.screens.steps.route import step_screen

        self.app.switch_screen(step_screen(step, self.walk_state))

    def follow(self) -> None:
        """To the step that the change's state asks for, if it is another one than this."""
        from indexpilot_tui.tui.screens.steps.route import step_of

        change = self.walk_state.change
        if change is not None and self.is_current and step_of(change) is not self.STEP:
            self.go(step_of(change))

    @property
    def change(self) -> Change:
        """The change; only asked for from the proposal on."""
        if self.walk_state.change is None:
            raise RefusedError("nothing has been proposed yet")
        return self.walk_state.change

    def due(self, every_s: float) -> bool:
        """True at most once in `every_s` seconds: when to ask the engine again."""
        now = self.console.clock.mono()
        if now - self._polled_at < every_s:
            return False
        self._polled_at = now
        return True

    def poll_change(self) -> None:
        """Read the change again; move on when its state says so."""

        def got(change: Change) -> None:
            self.walk_state.change = change
            self.follow()

        number = self.change.id
        self.work_on(lambda: self.engine.change(number), got, what="reading the change", group="poll")

    def why_not_operate(self) -> str:
        """Why this console may not change anything."""
        if not self.engine.operate:
            return READ_ONLY
        return "" if self.engine.control_available else self.engine.control_reason
