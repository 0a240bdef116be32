"""The rows and columns of the hotspots: statements, users, tables, databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from indexpilot_tui.engine.observe.model import Group
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.table import Column, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import DatabaseSpot, Hotspot, Hotspots, TableSpot

_FIGURES = (
    Column("share", "time%", 6, "right"),
    Column("calls", "calls/s", 8, "right"),
    Column("mean", "mean ms", 8, "right"),
    Column("spread", "±ms", 8, "right", 140),
    Column("ms", "ms/s", 8, "right", 110),
    Column("rows", "rows", 7, "right", 94),
    Column("hit", "hit%", 6, "right", 120),
    Column("read", "read/s", 8, "right", 150),
    Column("write", "write/s", 8, "right", 160),
    Column("temp", "temp/s", 8, "right", 130),
    Column("wal", "WAL/s", 8, "right", 170),
)
COLUMNS: Mapping[Group, tuple[Column, ...]] = {
    Group.QUERY: (
        *_FIGURES,
        Column("trend", "trend", 8, "left", 62),
        Column("user", "user", 12, "left", 180),
        Column("query", "query", 0, shorten=in_one_line),
    ),
    Group.USER: (*_FIGURES, Column("query", "user", 0)),
    Group.TABLE: (
        Column("share", "time%", 6, "right"),
        Column("blocks", "blocks/s", 9, "right"),
        Column("hit", "hit%", 6, "right"),
        Column("scans", "seq/s", 7, "right", 56),
        Column("scanned", "seq rows/s", 10, "right", 80),
        Column("inserted", "ins/s", 8, "right", 70),
        Column("updated", "upd/s", 8, "right", 70),
        Column("deleted", "del/s", 8, "right", 100),
        Column("hot", "HOT%", 6, "right", 90),
        Column("query", "table", 0),
    ),
    Group.DATABASE: (
        Column("share", "time%", 6, "right"),
        Column("ms", "busy ms/s", 9, "right"),
        Column("calls", "xacts/s", 8, "right"),
        Column("sessions", "sess", 5, "right", 60),
        Column("hit", "hit%", 6, "right", 70),
        Column("read", "read/s", 8, "right", 80),
        Column("rows", "rows/s", 9, "right", 90),
        Column("temp", "temp/s", 9, "right", 100),
        Column("query", "database", 0),
    ),
}
SINCE_MARK = Column("change", "vs mark", 8, "right", 62)


def rows_of(spots: Hotspots) -> list[Row]:
    """The rows of the group that is looked at."""
    if spots.view.group is Group.TABLE:
        return [_table(table) for table in spots.tables]
    if spots.view.group is Group.DATABASE:
        return [_database(database) for database in spots.databases]
    return [row_of(item) for item in spots.items]


def row_of(item: Hotspot) -> Row:
    """One statement or user as a row; the key is the queryid. What has joined the top since the mark has a plus."""
    heavy = "warn" if item.share >= 0.25 else "plain"
    cells = {
        "share": (fmt.percent(item.share), heavy),
        "calls": (fmt.rate(item.calls_per_s), "plain"),
        "mean": (fmt.rate(item.mean_ms), "plain"),
        "spread": (fmt.rate(item.stddev_ms), "dim"),
        "ms": (fmt.rate(item.ms_per_s), "plain"),
        "rows": (fmt.count(item.rows_per_call), "plain"),
        "hit": (fmt.percent(item.hit_ratio), _poor(item.hit_ratio)),
        "read": (fmt.rate(item.read_blocks_per_s), "plain"),
        "write": (fmt.rate(item.written_blocks_per_s), "plain"),
        "temp": (fmt.rate(item.temp_blocks_per_s), "warn" if item.temp_blocks_per_s > 0 else "dim"),
        "wal": (fmt.size(item.wal_bytes_per_s), "plain"),
        "trend": (fmt.sparkline(item.trend, 8), "dim"),
        "user": (item.user, "dim"),
        "query": (item.query, "plain"),
    }
    if item.before_ms_per_s is not None:
        grew = item.joined or item.ms_per_s > 1.5 * item.before_ms_per_s
        cells["change"] = (_change(item), "warn" if grew else "dim")
    return Row(item.queryid, cells, ("+", "accent") if item.joined else (" ", "plain"))


def _change(item: Hotspot) -> str:
    before = item.before_ms_per_s or 0.0
    if before <= 0:
        return "new"
    factor = item.ms_per_s / before
    return f"×{factor:.0f}" if factor >= 10 else fmt.change_pct(before, item.ms_per_s)


def _table(table: TableSpot) -> Row:
    return Row(
        table.oid,
        {
            "share": (fmt.percent(table.share), "warn" if (table.share or 0.0) >= 0.25 else "plain"),
            "blocks": (fmt.rate(table.blocks_per_s), "plain"),
            "hit": (fmt.percent(table.hit_ratio), _poor(table.hit_ratio)),
            "scans": (fmt.rate(table.seq_scans_per_s), "plain"),
            "scanned": (fmt.rate(table.seq_rows_per_s), "plain"),
            "inserted": (fmt.rate(table.inserted_per_s), "plain"),
            "updated": (fmt.rate(table.updated_per_s), "plain"),
            "deleted": (fmt.rate(table.deleted_per_s), "plain"),
            "hot": (fmt.percent(table.hot_ratio), "plain"),
            "query": (table.name, "plain"),
        },
    )


def _database(database: DatabaseSpot) -> Row:
    return Row(
        database.oid,
        {
            "share": (fmt.percent(database.share), "plain"),
            "ms": (fmt.rate(database.active_ms_per_s), "plain"),
            "calls": (fmt.rate(database.xacts_per_s), "plain"),
            "sessions": (fmt.count(database.sessions), "plain"),
            "hit": (fmt.percent(database.hit_ratio), _poor(database.hit_ratio)),
            "read": (fmt.rate(database.read_blocks_per_s), "plain"),
            "rows": (fmt.rate(database.rows_per_s), "plain"),
            "temp": (fmt.size(database.temp_bytes_per_s), "plain"),
            "query": (database.name, "plain"),
        },
    )


def _poor(ratio: float | None) -> str:
    return "warn" if ratio is not None and ratio < 0.9 else "plain"
