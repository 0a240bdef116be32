"""Pane 1: where the server's time goes, over a window, by statement, table, user or database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from indexpilot_tui.engine.observe.model import Group, View
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.panes.hotspot_rows import COLUMNS, SINCE_MARK, rows_of
from indexpilot_tui.tui.panes.matching import Filter
from indexpilot_tui.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import Hotspot, Hotspots, Observation
    from indexpilot_tui.tui.feed import Snapshot

WINDOWS_S = (0.0, 60.0, 300.0, 3600.0)
GROUPS = tuple(Group)


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
    return (-(numbers.get(column) or 0.0), item.query)


class HotspotsPane(KeyedTable):
    """Rates over a window. Where pg_stat_statements cannot be read, it says why and what to do."""

    def __init__(self) -> None:
        super().__init__(COLUMNS[Group.QUERY], empty="waiting for the second reading: rates need two", id="hotspots")
        self.filter = Filter()
        self.order = ORDERS[0]
        self.view = View()
        self._made: tuple[Observation, View, Hotspots] | None = None
        self.set_title("1 Hotspots")

    def turn(self, step: int) -> None:
        """Sort by the next (1) or previous (-1) column."""
        self.order = ORDERS[(ORDERS.index(self.order) + step) % len(ORDERS)]

    def turn_window(self, *, marked: bool) -> str:
        """To the next window, behind the hour to the time since the mark where there is one; what it is now."""
        at = len(WINDOWS_S) if self.view.since_mark else WINDOWS_S.index(self.view.window_s)
        at = (at + 1) % (len(WINDOWS_S) + (1 if marked else 0))
        since = at == len(WINDOWS_S)
        self.view = replace(self.view, since_mark=since, window_s=0.0 if since else WINDOWS_S[at])
        return self._window_words()

    def turn_group(self) -> Group:
        """To the next group."""
        group = GROUPS[(GROUPS.index(self.view.group) + 1) % len(GROUPS)]
        self.look_by(group)
        return group

    def look_by(self, group: Group) -> None:
        self.view = replace(self.view, group=group)
        self.start_over()

    def spots(self, snapshot: Snapshot) -> Hotspots | None:
        """The hotspots of this moment as this pane looks at them."""
        seen = snapshot.observation
        if seen is None:
            return None
        if self._made is None or self._made[0] is not seen or self._made[1] != self.view:
            spots = seen.hotspots if seen.book is None else seen.book.hotspots(self.view)
            self._made = (seen, self.view, spots)
        return self._made[2]

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest hotspots."""
        spots = self.spots(snapshot)
        if spots is None:
            return
        wanted = replace(
            spots,
            items=tuple(
                sorted(
                    (i for i in spots.items if self.filter.accepts(i.query, i.user)),
                    key=lambda item: _value(item, self.order.column),
                )
            ),
            tables=tuple(t for t in spots.tables if self.filter.accepts(t.name)),
            databases=tuple(d for d in spots.databases if self.filter.accepts(d.name)),
        )
        columns = COLUMNS[spots.view.group]
        self.set_columns((columns[0], SINCE_MARK, *columns[1:]) if _compares(spots) else columns)
        rows = rows_of(wanted)
        self.set_rows(rows, sorted_by=self._sorted(), empty=self._nothing(spots))
        self.set_title(self._heading(spots, len(rows)))

    def _sorted(self) -> str:
        return self.order.column if self.view.group in (Group.QUERY, Group.USER) else "share"

    def _nothing(self, spots: Hotspots) -> str:
        if not spots.available and self.view.group is not Group.DATABASE:
            return spots.unavailable
        if spots.items or spots.tables or spots.databases:
            return f"nothing matches {self.filter.text}"
        if self.view.group is Group.DATABASE:
            return "counting: databases are read every 10 s while somebody looks at them"
        if self.view.group is Group.TABLE:
            return "no table was read or written yet: tables are read every 30 s, and rates need two readings"
        if not spots.interval_s:
            return "waiting for the second reading"
        if spots.hidden:
            return f"{spots.hidden} statements are hidden from this login: GRANT pg_monitor to it"
        return "no statement ran in this window"

    def _window_words(self) -> str:
        if self.view.since_mark:
            return "since the mark"
        return f"last {round(self.view.window_s / 60)} min" if self.view.window_s else "last reading"

    def _heading(self, spots: Hotspots, shown: int) -> str:
        # no figure that changes at every reading: a new title repaints the whole pane (10 kB), a cell a few bytes
        view = spots.view
        by = "" if view.group is Group.QUERY else f" by {view.group.value}"
        parts = [f"1 Hotspots{by}", self._window_words() if view.window_s or view.since_mark else _reading(spots)]
        if view.window_s and spots.interval_s < 0.9 * view.window_s:
            parts[1] += f", {fmt.seconds(spots.interval_s // 10 * 10)} of it watched"
        if spots.mark is not None:
            parts.append(f"mark {fmt.hour(spots.mark)}: {spots.joined} joined")
        if spots.sampled:
            parts.append("SAMPLED, no pg_stat_statements")
        if self.filter.text:
            whole = len(spots.items) + len(spots.tables) + len(spots.databases)
            parts.append(f"/{self.filter.text} {shown} of {whole}")
        if spots.hidden:
            parts.append(f"{spots.hidden} hidden (no privilege)")
        parts += dict.fromkeys(note for note in (spots.window_note, spots.epoch_note) if note)
        return " · ".join(parts)

    def hotspot(self, snapshot: Snapshot) -> Hotspot | None:
        """The statement under the cursor; None where something else is shown."""
        spots = self.spots(snapshot)
        if spots is None or self.view.group is not Group.QUERY:
            return None
        key = self.selected
        return next((i for i in spots.items if i.queryid == key), None)

    def named(self, snapshot: Snapshot) -> str:
        """The user or table under the cursor, as a statement would name it."""
        spots, key = self.spots(snapshot), self.selected
        if spots is None:
            return ""
        if self.view.group is Group.USER:
            return next((i.query for i in spots.items if i.queryid == key), "")
        return next((t.name.partition(".")[2] for t in spots.tables if t.oid == key), "")

    def set_filter(self, text: str) -> str:
        """Filter by a pattern; returns what is wrong with it, or nothing."""
        self.filter = replace(self.filter, text=text)
        self.start_over()
        return self.filter.fault


def _reading(spots: Hotspots) -> str:
    return f"rates of the last {max(1, round(spots.interval_s))} s"


def _compares(spots: Hotspots) -> bool:
    return spots.view.group is Group.QUERY and any(i.before_ms_per_s is not None for i in spots.items)
