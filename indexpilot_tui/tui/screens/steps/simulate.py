"""Step 1: what would it do? Nothing is installed, locked or written on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import Input

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, wrap
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.forecast_text import forecast_lines
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step
from indexpilot_tui.tui.widgets.table import Column, KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.model import Forecast


class SimulateScreen(StepScreen):
    """Candidates, the statement (which can be edited), and its forecast."""

    STEP = Step.SIMULATE
    HELP_TITLE = "Simulate"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("enter", "forecast", "forecast", "Forecast the candidate under the cursor, or the edited statement.", 1),
        Action("d", "edit", "edit DDL", "Edit the statement.", 1),
        Action("p", "plan", "next plan", "Show the plans of the next statement.", 2),
        Action("n", "next", "review", "Go on to the review, with the statement that was forecast.", 0),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(a for a in ACTIONS if a.name != "forecast"),
        ("J", "scroll_text(1)", "Scroll the forecast down"),
        ("K", "scroll_text(-1)", "Scroll the forecast up"),
    ]
    DEFAULT_CSS = """
    SimulateScreen #ddl-row { height: 1; }
    SimulateScreen #ddl-row > .title { width: 6; }
    SimulateScreen #ddl { width: 1fr; padding: 0; background: $surface; color: $foreground; }
    SimulateScreen #ddl:focus { background: $ip-cursor; }
    """

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self._plan = 0
        self._status: list[tuple[str, str]] = []
        self._busy = ""

    def step_body(self) -> ComposeResult:
        yield KeyedTable((Column("ddl", "candidates", 0),), id="candidates", grow=6)
        with Horizontal(id="ddl-row"):
            yield LineView([line(("DDL ▸ ", "accent"))], classes="title", focusable=False)
            yield Input(self.walk_state.ddl, id="ddl", select_on_focus=False, compact=True)
        view = LineView(id="forecast", classes="pane fill")
        view.set_title("Forecast")
        yield view

    def on_mount(self) -> None:
        super().on_mount()
        walk = self.walk_state
        if walk.candidates is None and walk.queryid is not None:
            queryid = walk.queryid
            self._busy = "looking for candidates …"
            self.query_one("#forecast").focus()
            self.work_on(
                lambda: self.engine.candidates(queryid),
                self._offered,
                what="finding candidates",
                failed=self._failed,
            )
        else:
            self._offered(list(walk.candidates or ()))

    def _offered(self, found: list[str]) -> None:
        walk = self.walk_state
        walk.candidates = tuple(found)
        self._busy = ""
        table = self.query_one("#candidates", KeyedTable)
        table.set_rows([Row(ddl, {"ddl": (ddl, "plain")}) for ddl in walk.candidates])
        table.display = len(found) > 1
        if walk.forecast is not None:
            self.query_one("#forecast").focus()
        elif found:
            self._set_ddl(found[0])
            self.simulate(found[0])
        else:
            self._status = [("no candidate was found for this statement: write one (CREATE INDEX …, DROP INDEX …)", "warn")]
            self.query_one("#ddl", Input).focus()
        if found:
            self.query_one("#candidates" if len(found) > 1 else "#forecast").focus()
        self.touch()

    def _set_ddl(self, ddl: str) -> None:
        self.walk_state.ddl = ddl
        self.query_one("#ddl", Input).value = ddl

    def simulate(self, ddl: str) -> None:
        """Ask for the forecast of a statement; a newer one replaces it."""
        self._busy, self._status, self._plan = "forecasting …", [], 0
        self.touch()

        def got(forecast: Forecast) -> None:
            self._busy = ""
            self.walk_state.forecast, self.walk_state.forecast_ddl = forecast, ddl

        self.work_on(lambda: self.engine.simulate(ddl), got, what="the forecast", failed=self._failed)

    def _failed(self, fault: Fault) -> None:
        self._busy = ""
        self._status = [(fault.message, "crit")] + ([(fault.remedy, "plain")] if fault.remedy else [])
        self.walk_state.forecast = None

    def draw(self) -> None:
        view = self.query_one("#forecast", LineView)
        width = max(30, view.line_width)
        walk = self.walk_state
        out: list[Line] = []
        if self._busy:
            out.append(line((self._busy, "warn")))
        for text, tone in self._status:
            out += wrap(text, width, tone)
        if walk.forecast is not None and not self._busy:
            if walk.ddl != walk.forecast_ddl:
                out.append(line(("the statement was changed: enter forecasts it", "warn")))
            out += forecast_lines(walk.forecast, width, self._plan)
        view.set_title(f"Forecast · for {in_one_line(walk.origin, width - 18)}" if walk.origin else "Forecast")
        view.set_lines(out)

    def why_not(self, action: Action) -> str:
        walk = self.walk_state
        if action.name == "next":
            if self._busy:
                return self._busy
            if walk.forecast is None:
                return "there is no forecast yet"
            return "" if walk.ddl == walk.forecast_ddl else "forecast the changed statement first (enter)"
        if action.name == "plan" and (walk.forecast is None or len(walk.forecast.queries) < 2):
            return "there is no other statement"
        if action.name == "edit" and walk.change is not None:
            return "it is proposed already: what was approved cannot be edited"
        return super().why_not(action)

    @on(KeyedTable.Chosen, "#candidates")
    def _chosen(self, event: KeyedTable.Chosen) -> None:
        if self.walk_state.change is None:
            self._set_ddl(str(event.key))
            self.simulate(str(event.key))

    @on(Input.Changed, "#ddl")
    def _edited(self, event: Input.Changed) -> None:
        self.walk_state.ddl = event.value
        self.touch()

    @on(Input.Submitted, "#ddl")
    def _submitted(self, event: Input.Submitted) -> None:
        if event.value.strip() and self.walk_state.change is None:
            self.query_one("#forecast").focus()
            self.simulate(event.value.strip())
            self.walk_state.ddl = event.value.strip()

    def action_edit(self) -> None:
        """The cursor into the statement."""
        self.query_one("#ddl", Input).focus()

    def action_plan(self) -> None:
        """The next statement's plans."""
        self._plan += 1
        self.draw()

    def action_scroll_text(self, direction: int) -> None:
        """Scroll the forecast while the cursor stays on the candidates."""
        self.query_one("#forecast", LineView).scroll_relative(y=direction * 5, animate=False)

    def action_next(self) -> None:
        """To the review."""
        self.go(Step.REVIEW)

    def action_back(self) -> None:
        """Out of the statement first, then out of the stepper."""
        if isinstance(self.focused, Input):
            self.query_one("#forecast").focus()
            return
        super().action_back()
