"""The raw signals of the server, of which the gates make their verdicts: each with its limit, its past and its age."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import line
from indexpilot_tui.tui.panes.signal_rows import COLUMNS, about, age_of, signal_row
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.gauge import Gauge
    from indexpilot_tui.engine.observe.model import Observation
    from indexpilot_tui.tui.feed import Snapshot


class SignalsScreen(ConsoleScreen):
    """Asked at each reading while it is in front: the engine has what it read; metrics alone are run for it."""

    HELP_TITLE = "Signals"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("t", "trouble", "trouble only", "Show only what is over its limit or unknown, or everything.", 1),
        Action("space", "pause", "pause", "Hold the picture still.", 3),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    SignalsScreen #signals { height: 1fr; }
    SignalsScreen #about { height: 8; }
    SignalsScreen.-tall #about { height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._gauges: tuple[Gauge, ...] | None = None
        self._of: Observation | None = None  # the reading that they are of
        self._asked: Observation | None = None
        self._fault = ""
        self._trouble_only = False

    def body(self) -> ComposeResult:
        table = KeyedTable(COLUMNS, empty="nothing was read yet …", id="signals")
        table.add_class("pane")
        yield table
        yield LineView(id="about", classes="pane")

    def on_mount(self) -> None:
        self.query_one("#signals").focus()
        super().on_mount()

    def live(self, snapshot: Snapshot) -> None:
        seen = snapshot.observation
        if seen is not None and seen is not self._asked and not self.console.paused:
            self._asked = seen
            self.work_on(
                self.engine.gauges, lambda found: self._take(found, seen), what="reading signals", failed=self._failed
            )
        self._draw(snapshot)

    def _take(self, found: tuple[Gauge, ...], seen: Observation) -> None:
        self._gauges, self._of, self._fault = found, seen, ""

    def _failed(self, fault: Fault) -> None:
        self._fault = fault.one_line

    def _age(self, gauge: Gauge, snapshot: Snapshot) -> float | None:
        good_at = snapshot.good_at
        since = None if good_at is None else self.console.clock.mono() - good_at
        return age_of(gauge, self._of.at if self._of is not None else None, since)

    def _live(self, snapshot: Snapshot) -> bool:
        """Whether the target answers: else what is shown was, and is not."""
        if snapshot.error or self._fault or snapshot.good_at is None:
            return False
        return self.console.clock.mono() - snapshot.good_at <= self.console.stale_after_s

    def _draw(self, snapshot: Snapshot) -> None:
        table = self.query_one("#signals", KeyedTable)
        live = self._live(snapshot)
        heading = ["Signals"]
        if self._gauges is not None:
            standings = {g.key: g.standing(self._age(g, snapshot)).value if live else "unknown" for g in self._gauges}
            rows = [
                signal_row(g, self._age(g, snapshot), live=live)
                for g in self._gauges
                if not self._trouble_only or standings[g.key] in ("over", "unknown")
            ]
            table.set_rows(rows, empty="everything is measured and within its limit")
            if not live:
                heading.append("STALE: nothing is known now")
            else:
                values = list(standings.values())
                heading.append(f"{values.count('over')} over · {values.count('unknown')} unknown of {len(values)}")
        elif self._fault:
            table.set_rows([], empty=self._fault)
        if self._trouble_only:
            heading.append("trouble only")
        table.set_title(" · ".join(heading))
        self._tell(snapshot)

    def _tell(self, snapshot: Snapshot) -> None:
        view = self.query_one("#about", LineView)
        key = self.query_one("#signals", KeyedTable).selected
        gauge = next((g for g in self._gauges or () if g.key == key), None)
        if gauge is None:
            view.set_lines([line(("put the cursor on a signal", "dim"))])
        else:
            width = max(20, view.line_width)
            view.set_lines(about(gauge, self._age(gauge, snapshot), width, live=self._live(snapshot)))

    @on(KeyedTable.Moved)
    def _moved(self) -> None:
        self._tell(self.snapshot)
        self.query_one("#about", LineView).scroll_home(animate=False)

    def action_trouble(self) -> None:
        """Only what is wrong or not known, or everything."""
        self._trouble_only = not self._trouble_only
        self.query_one("#signals", KeyedTable).start_over()
        self._draw(self.snapshot)
        self.say("only what is over its limit or unknown" if self._trouble_only else "everything")
