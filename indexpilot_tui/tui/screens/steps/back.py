"""Rolling back: the plan of the way back, its rehearsal on the shadow, and then the name of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, wrap
from indexpilot_tui.tui.screens.steps.back_text import way_back_lines
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.widgets.entry import Entry, exactly
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import Change
    from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack

_REHEARSING = "being carried out on the shadow …"


class RollBackScreen(StepScreen):
    """Nothing happens here before the name is typed; the rehearsal harms nobody."""

    STEP = Step.END
    HELP_TITLE = "Roll back"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("h", "rehearse", "rehearse", "Carry the roll-back out on the shadow first, and compare every index.", 0),
        Action("n", "name", "type the name", "Go to the field; the typed name and enter start the roll-back.", 1),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self._back: WayBack | None = None
        self._fault: Fault | None = None
        self._rehearsing = False

    def step_body(self) -> ComposeResult:
        view = LineView(id="plan", classes="pane fill")
        view.set_title("Roll back")
        yield view
        name = self.walk_state.index_name
        yield Entry(
            f"Type the name of the index to roll back on {self.console.label}: {name}", "Roll back",
            exactly(self.change.plan.index), danger=True, id="answer",
        )  # fmt: skip

    def on_mount(self) -> None:
        self.query_one("#plan").focus()
        self._read()
        super().on_mount()

    def _read(self) -> None:
        number = self.change.id
        self.work_on(lambda: self.engine.way_back(number), self._got, what="the way back", failed=self._failed, group="plan")

    def _got(self, back: WayBack) -> None:
        self._back, self._fault = back, None
        self.touch()

    def _failed(self, fault: Fault) -> None:
        self._fault, self._rehearsing = fault, False
        self.query_one(Entry).release()
        self.touch()

    def draw(self) -> None:
        view = self.query_one("#plan", LineView)
        width = max(20, view.line_width)
        out: list[Line] = wrap(self._fault.one_line, width, "crit") if self._fault is not None else []
        if self._back is not None:
            out += way_back_lines(self._back, _REHEARSING if self._rehearsing else "", width)
        elif self._fault is None:
            out.append(line(("reading what it takes to go back …", "dim")))
        view.set_lines(out)
        self.query_one(Entry).hold(self._obstacle())

    def _obstacle(self) -> str:
        if why := self.why_not_operate():
            return why
        if self._back is None:
            return "the way back is not known yet"
        return self._back.why_not or ("there is nothing to go back to" if self._back.kind == "none" else "")

    def why_not(self, action: Action) -> str:
        if action.name == "rehearse":
            return "it is being rehearsed" if self._rehearsing else ""
        if action.name == "name":
            return self._obstacle()
        return super().why_not(action)

    def action_rehearse(self) -> None:
        """On the shadow; the result goes into the log of the change."""
        number = self.change.id
        self._rehearsing = True
        self.touch()

        def done(told: Rehearsal) -> None:
            self._rehearsing = False
            self.say(f"rehearsal: {told.sentence}", "ok" if told.result == "held" else "warn")
            self._read()

        self.work_on(lambda: self.engine.rehearse(number), done, what="the rehearsal", failed=self._failed, group="rehearse")

    def action_back(self) -> None:
        """To the comparison."""
        self.go(Step.VERIFY)

    def action_name(self) -> None:
        """To the field."""
        self.query_one(Entry).focus_input()

    @on(Entry.Accepted, "#answer")
    def _accepted(self, event: Entry.Accepted) -> None:
        del event
        number = self.change.id

        def done(child: Change) -> None:
            self.console.hurry()
            self.walk_state.change, self.walk_state.forecast = child, None
            self.go(Step.BUILD)

        self.work_on(
            lambda: self.engine.rollback(number, "rolled back at the console"), done, what="the roll-back",
            failed=self._failed, group="act",
        )  # fmt: skip
