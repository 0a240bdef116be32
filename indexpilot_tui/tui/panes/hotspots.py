"""Pane 1: where the server's time goes now, statement by statement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.panes.matching import Filter
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.table import Column, KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import Hotspot, Hotspots
    from indexpilot_tui.tui.feed import Snapshot

COLUMNS = (
    Column("share", "time%", 6, "right"),
    Column("calls", "calls/s", 8, "right"),
    Column("mean", "mean ms", 8, "right"),
    Column("ms", "ms/s", 8, "right", 110),
    Column("rows", "rows", 7, "right", 94),
    Column("hit", "hit%", 6, "right", 120),
    Column("temp", "temp/s", 8, "right", 130),
    Column("trend", "trend", 8, "left", 62),
    Column("query", "query", 0, shorten=in_one_line),
)


@dataclass(frozen=True, slots=True)
class Order:
    """A sort order of the pane."""

    column: str
    title: str


ORDERS = (
    Order("share", "time%"),
    Order("calls", "calls/s"),
    Order("mean", "mean ms"),
    Order("rows", "rows"),
    Order("query", "query"),
)


def _value(item: Hotspot, column: str) -> tuple[float, str]:
    numbers = {"share": item.share, "calls": item.calls_per_s, "mean": item.mean_ms, "rows": item.rows_per_call}
    return (-numbers.get(column, 0.0), item.query)


def row_of(item: Hotspot) -> Row:
    """One hotspot as a row; the key is the queryid."""
    heavy = "warn" if item.share >= 0.25 else "plain"
    poor = "warn" if item.hit_ratio is not None and item.hit_ratio < 0.9 else "plain"
    return Row(
        item.queryid,
        {
            "share": (fmt.percent(item.share), heavy),
            "calls": (fmt.rate(item.calls_per_s), "plain"),
            "mean": (fmt.rate(item.mean_ms), "plain"),
            "ms": (fmt.rate(item.ms_per_s), "plain"),
            "rows": (fmt.count(item.rows_per_call), "plain"),
            "hit": (fmt.percent(item.hit_ratio), poor),
            "temp": (fmt.rate(item.temp_blocks_per_s), "warn" if item.temp_blocks_per_s > 0 else "dim"),
            "trend": (fmt.sparkline(item.trend, 8), "dim"),
            "query": (item.query, "plain"),
        },
    )


class HotspotsPane(KeyedTable):
    """Rates of the last interval. Where pg_stat_statements cannot be read, it says why and what to do."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, empty="waiting for the second reading: rates need two", id="hotspots")
        self.filter = Filter()
        self.order = ORDERS[0]
        self.set_title("1 Hotspots")

    def turn(self, step: int) -> None:
        """Sort by the next (1) or previous (-1) column."""
        self.order = ORDERS[(ORDERS.index(self.order) + step) % len(ORDERS)]

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest hotspots."""
        if snapshot.observation is None:
            return
        spots = snapshot.observation.hotspots
        wanted = [i for i in spots.items if self.filter.accepts(i.query, i.user)]
        wanted.sort(key=lambda item: _value(item, self.order.column))
        self.set_rows([row_of(i) for i in wanted], sorted_by=self.order.column, empty=self._nothing(spots))
        self.set_title(self._heading(spots, len(wanted)))

    def _nothing(self, spots: Hotspots) -> str:
        if not spots.available:
            return spots.unavailable
        if spots.items:
            return f"no statement matches {self.filter.text}"
        if not spots.interval_s:
            return "waiting for the second reading"
        if spots.hidden:
            return f"{spots.hidden} statements are hidden from this login: GRANT pg_monitor to it"
        return "no statement ran in the last interval"

    def _heading(self, spots: Hotspots, shown: int) -> str:
        # no figure that changes at every reading: a new title repaints the whole pane (10 kB), a cell a few bytes
        parts = ["1 Hotspots", f"rates of the last {max(1, round(spots.interval_s))} s"]
        if self.filter.text:
            parts.append(f"/{self.filter.text} {shown} of {len(spots.items)}")
        if spots.hidden:
            parts.append(f"{spots.hidden} hidden (no privilege)")
        if spots.epoch_note:
            parts.append(spots.epoch_note)
        return " · ".join(parts)

    def hotspot(self, snapshot: Snapshot) -> Hotspot | None:
        """The hotspot under the cursor."""
        if snapshot.observation is None:
            return None
        key = self.selected
        return next((i for i in snapshot.observation.hotspots.items if i.queryid == key), None)

    def set_filter(self, text: str) -> str:
        """Filter by a pattern; returns what is wrong with it, or nothing."""
        self.filter = replace(self.filter, text=text)
        self.select(None)
        return self.filter.fault
