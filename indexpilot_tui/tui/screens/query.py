"""One statement: its text, its figures, its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, rule, wrap
from indexpilot_tui.tui.panes.extras import statement_lines
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.screens.plans import PlansScreen
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.plot import Plot

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import Hotspot, Observation, QueryDetail, View
    from indexpilot_tui.engine.observe.optional.model import Extras
    from indexpilot_tui.tui.feed import Snapshot

SERIES = (("mean_ms", "mean ms a call"), ("calls_per_s", "calls a second"), ("ms_per_s", "ms of execution a second"))


def figure_lines(spot: Hotspot, width: int) -> list[Line]:
    """The figures of a statement over its window; what the server does not measure is a dash."""
    rows = [
        f"{fmt.percent(spot.share)} % of the time · {fmt.rate(spot.calls_per_s)} calls/s · {fmt.rate(spot.ms_per_s)} ms/s · "
        f"mean {fmt.rate(spot.mean_ms)} ± {fmt.rate(spot.stddev_ms)} ms · {fmt.count(spot.rows_per_call)} rows a call",
        f"cache hit {fmt.percent(spot.hit_ratio)} % · read {fmt.rate(spot.read_blocks_per_s)} blocks/s in "
        f"{fmt.rate(spot.read_ms_per_s)} ms/s · written {fmt.rate(spot.written_blocks_per_s)} in "
        f"{fmt.rate(spot.write_ms_per_s)} ms/s · temp {fmt.rate(spot.temp_blocks_per_s)} blocks/s",
        f"WAL {fmt.size(spot.wal_bytes_per_s)}/s · planning {fmt.rate(spot.plan_ms_per_s)} ms/s · first seen "
        f"{fmt.hour(spot.first_seen) if spot.first_seen else 'before this console looked'}"
        + (f", last {fmt.hour(spot.last_seen)}" if spot.last_seen else ""),
    ]
    if spot.waits:
        waits = " · ".join(f"{name or 'on a CPU'} {fmt.percent(share, 0)} %" for name, share in spot.waits)
        rows.append(f"waits, sampled over a minute: {waits}")
    if spot.before_ms_per_s is not None:
        joined = ", in the top since then" if spot.joined else ""
        rows.append(f"before the mark: {fmt.rate(spot.before_ms_per_s)} ms/s{joined}")
    return [folded for row in rows for folded in wrap(row, width)]


class QueryScreen(ConsoleScreen):
    """The statement is found again by its queryid at every reading."""

    HELP_TITLE = "Statement"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("i", "simulate", "simulate", "Forecast an index for this statement.", 0),
        Action("x", "plans", "plan", "Its plan now, generic and for values of its parameters. Nothing is executed.", 1),
        Action("p", "series", "plot", "Plot another figure: mean ms, calls a second, ms a second.", 2),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    QueryScreen #text { height: 3fr; }
    QueryScreen #plot { height: 2fr; min-height: 8; }
    """

    def __init__(self, spot: Hotspot, view: View) -> None:
        super().__init__()
        self._view, self._window = view, ""
        self._spot, self._detail, self._fault = spot, None, ""
        self._series = 0
        self._asked: object = None

    _detail: QueryDetail | None
    _extras: Extras | None = None
    _silent = ""

    def body(self) -> ComposeResult:
        view = LineView(id="text", classes="pane")
        view.set_title(f"statement {self._spot.queryid}")
        yield view
        plot = Plot("one point an interval: the plot starts with the second", id="plot")
        plot.add_class("pane")
        yield plot

    def on_mount(self) -> None:
        self.query_one("#text").focus()
        super().on_mount()

    def live(self, snapshot: Snapshot) -> None:
        if snapshot.observation is not None and snapshot.observation is not self._asked:
            self._asked = snapshot.observation
            self.work_on(
                lambda: self.engine.query_detail(self._spot.queryid),
                self._show,
                what="reading the statement",
                failed=self._failed,
            )
            # beside it: extensions may be slow, and the statement does not wait for them
            self.work_on(
                lambda: self.engine.extras(self._spot.queryid), self._told, what="reading extensions", group="extras",
                failed=self._untold,
            )  # fmt: skip
            self._look(snapshot.observation)
        self._draw()

    def _look(self, seen: Observation) -> None:
        spots = seen.hotspots if seen.book is None else seen.book.hotspots(self._view)
        self._spot = next((i for i in spots.items if i.queryid == self._spot.queryid), self._spot)
        self._window = f"{fmt.seconds(spots.interval_s)}{' since the mark' if self._view.since_mark else ''}"
        if spots.window_note:
            self._window += f" ({spots.window_note})"

    def _show(self, detail: QueryDetail) -> None:
        self._detail, self._fault = detail, ""

    def _told(self, extras: Extras) -> None:
        self._extras, self._silent = extras, ""

    def _untold(self, fault: Fault) -> None:
        self._silent = fault.one_line

    def _failed(self, fault: Fault) -> None:
        self._fault = fault.one_line

    def _draw(self) -> None:
        view = self.query_one("#text", LineView)
        view.set_lines(self._text(max(20, view.line_width)))
        plot = self.query_one(Plot)
        points = self._detail.history if self._detail else ()
        attribute, title = SERIES[self._series]
        plot.set_title(f"{title} · the last {len(points)} intervals, seconds ago")
        at = [(point.at - points[-1].at).total_seconds() for point in points]
        plot.show([getattr(point, attribute) for point in points] if len(points) > 1 else (), at)

    def _text(self, width: int) -> list[Line]:
        spot, detail = self._spot, self._detail
        out: list[Line] = [rule(f"the last {self._window}" if self._window else "now", width), *figure_lines(spot, width)]
        if self._fault:
            out.append(line((self._fault, "crit")))
        if detail is not None:
            out += [rule("since the statistics were reset", width)]
            out.append(
                line(
                    f"{fmt.count(detail.calls)} calls by {detail.user} · {fmt.seconds(detail.total_ms / 1000)} in all · "
                    f"mean {fmt.rate(detail.mean_ms)} ms ± {fmt.rate(detail.stddev_ms)} · {fmt.count(detail.rows)} rows"
                )
            )
        text: list[Line] = [rule("text", width), *wrap(detail.query if detail else spot.query, width)]
        if self._extras is not None:
            text += statement_lines(self._extras, width)
        if self._silent:
            text += wrap(self._silent, width, "crit")
        return out + text

    def action_simulate(self) -> None:
        """Into the stepper with this statement."""
        self.console.walk_statement(self._spot.queryid, self._spot.query)

    def action_plans(self) -> None:
        """Its plans."""
        self.app.push_screen(PlansScreen(self._spot.queryid))

    def action_series(self) -> None:
        """The next figure."""
        self._series = (self._series + 1) % len(SERIES)
        self._draw()
