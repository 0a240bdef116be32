"""From counters over a window to the rows that are shown: rates a second, shares, means. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from indexpilot_tui.engine.observe.counters import Counters
from indexpilot_tui.engine.observe.model import DatabaseSpot, TableSpot
from indexpilot_tui.engine.observe.tables import TableCounters
from indexpilot_tui.engine.observe.tape import Figures
from indexpilot_tui.engine.postgres.text import clean_line

# the figures of a table on its tape, of those of `tables.sql`; the first decides what is kept where there are too many
TABLE_FIGURES = ("blocks_fetched", "blocks_hit", "inserted", "updated", "hot_updated", "deleted", "seq_scans", "seq_rows")
DATABASE_FIGURES = ("active_ms", "xacts", "blocks_hit", "blocks_read", "rows", "temp_bytes")
_CONSTANT = re.compile(r"'(?:[^']|'')*'|\$\d+|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", re.IGNORECASE)
_LONGEST = 20_000  # characters of a text in which tables are looked for


@dataclass(frozen=True, slots=True)
class Timed:
    """What the server measures: times of blocks (track_io_timing), of planning (pg_stat_statements.track_planning).
    `sampled`: nothing but time, and that is an estimate."""

    io: bool = False
    planning: bool = False
    sampled: bool = False


def figures(c: Counters, seconds: float, total_ms: float, timed: Timed) -> dict[str, Any]:
    """The figures of a Hotspot."""
    blocks = c.hit + c.read
    if timed.sampled:
        share = c.total_ms / total_ms if total_ms > 0 else 0.0
        told = {"ms_per_s": c.total_ms / seconds, "share": share, "temp_blocks_per_s": 0.0, "wal_bytes_per_s": 0.0}
        return told | dict.fromkeys(("calls_per_s", "mean_ms", "rows_per_call", "hit_ratio"))
    return {
        "calls_per_s": c.calls / seconds if c.calls else None,
        "ms_per_s": c.total_ms / seconds,
        "mean_ms": c.total_ms / c.calls if c.calls else None,
        "stddev_ms": None if math.isnan(c.stddev_ms) or not c.calls else c.stddev_ms,
        "rows_per_call": c.rows / c.calls if c.calls else None,
        "share": c.total_ms / total_ms if total_ms > 0 else 0.0,
        "hit_ratio": c.hit / blocks if blocks else None,
        "read_blocks_per_s": c.read / seconds,
        "written_blocks_per_s": c.written / seconds,
        "read_ms_per_s": c.read_ms / seconds if timed.io else None,
        "write_ms_per_s": c.write_ms / seconds if timed.io else None,
        "plan_ms_per_s": c.plan_ms / seconds if timed.planning else None,
        "temp_blocks_per_s": c.temp / seconds,
        "wal_bytes_per_s": c.wal / seconds,
    }


def table_figures(tables: Mapping[int, TableCounters]) -> tuple[dict[int, Figures], dict[int, str]]:
    """What a tape of tables takes: counters and names, by oid."""
    counters = {oid: tuple(float(getattr(t, name)) for name in TABLE_FIGURES) for oid, t in tables.items()}
    return counters, {oid: f"{t.schema}.{t.name}" for oid, t in tables.items()}


def table_spots(
    seconds: float, sums: Mapping[int, Figures], names: Mapping[int, str], shares: Mapping[str, float]
) -> tuple[TableSpot, ...]:
    """Rows of the tables, those first whose statements took most time; `shares` by the name without its schema."""
    found = []
    for oid, values in sums.items():
        of = dict(zip(TABLE_FIGURES, values, strict=True))
        raw = names.get(oid, f"(oid {oid})")
        found.append(
            TableSpot(
                oid=oid,
                name=clean_line(raw, 200),
                share=shares.get(raw.partition(".")[2]),
                blocks_per_s=of["blocks_fetched"] / seconds,
                hit_ratio=_ratio(of["blocks_hit"], of["blocks_fetched"]),
                seq_scans_per_s=of["seq_scans"] / seconds,
                seq_rows_per_s=of["seq_rows"] / seconds,
                inserted_per_s=of["inserted"] / seconds,
                updated_per_s=of["updated"] / seconds,
                deleted_per_s=of["deleted"] / seconds,
                hot_ratio=_ratio(of["hot_updated"], of["updated"]),
            )
        )
    return tuple(sorted(found, key=lambda t: (-(t.share or 0.0), -t.blocks_per_s, t.name)))


def database_figures(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[int, Figures], dict[int, str], dict[int, int]]:
    """Counters, names and sessions by oid, from the rows of `databases.sql`; what a server does not count is -1."""
    counters, names, sessions = {}, {}, {}
    for row in rows:
        counters[row["oid"]] = tuple(float(-1 if row[name] is None else row[name]) for name in DATABASE_FIGURES)
        names[row["oid"]] = row["name"]
        sessions[row["oid"]] = row["sessions"]
    return counters, names, sessions


def database_spots(
    seconds: float, sums: Mapping[int, Figures], names: Mapping[int, str], sessions: Mapping[int, int], *, timed: bool
) -> tuple[DatabaseSpot, ...]:
    """Rows of the databases, the busiest first. `timed`: the server counts the time at work (14 on)."""
    active = sum(values[0] for values in sums.values())
    found = []
    for oid, values in sums.items():
        of = dict(zip(DATABASE_FIGURES, values, strict=True))
        found.append(
            DatabaseSpot(
                oid=oid,
                name=clean_line(names.get(oid, f"(oid {oid})"), 200),
                share=of["active_ms"] / active if timed and active > 0 else None,
                active_ms_per_s=of["active_ms"] / seconds if timed else None,
                xacts_per_s=of["xacts"] / seconds,
                hit_ratio=_ratio(of["blocks_hit"], of["blocks_hit"] + of["blocks_read"]),
                read_blocks_per_s=of["blocks_read"] / seconds,
                rows_per_s=of["rows"] / seconds,
                temp_bytes_per_s=of["temp_bytes"] / seconds,
                sessions=sessions.get(oid, 0),
            )
        )
    return tuple(sorted(found, key=lambda d: (-(d.active_ms_per_s or 0.0), -d.xacts_per_s, d.name)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def shares_by_table(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The share of time by the name of each table, from texts of statements and their shares."""
    found: dict[str, float] = {}
    for text, share in items:
        for name in tables_named(text):
            found[name] = found.get(name, 0.0) + share
    return found


@lru_cache(maxsize=1024)
def tables_named(text: str) -> frozenset[str]:
    """The tables that a statement names, without their schemas; none where it is no SQL that can be parsed."""
    import postgast

    from indexpilot_tui.engine.postgres.parsing import parse

    if len(text) > _LONGEST:
        return frozenset()
    try:
        tree = parse(text)
    except postgast.PgQueryError:
        return frozenset()
    return frozenset(_names(tree))


def _names(tree: Any) -> Iterator[str]:
    import postgast
    from postgast import pg_query_pb2 as pb

    aside = {cte.ctename for cte in postgast.find_nodes(tree, pb.CommonTableExpr)}
    for relation in postgast.find_nodes(tree, pb.RangeVar):
        if relation.schemaname or relation.relname not in aside:
            yield relation.relname


def without_constants(text: str) -> str:
    """A statement as pg_stat_activity has it, with its constants taken out: what makes two of them one."""
    return _CONSTANT.sub("?", text)
