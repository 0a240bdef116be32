"""How much disk and time a change may take, asked of the target at the moment of asking: a plan ages, a table grows.

For the gates, so on the safe side: every row is counted, deduplication and predicates are not, unknown widths are as wide
as the table allows. The forecast of the console, which wants to be right in the middle, is the what-if room's.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.rates import Rates
from indexpilot_tui.engine.whatif.sizes import (
    PAGE,
    PAGES_PER_RANGE,
    IndexShape,
    KeyColumn,
    estimate,
    temp_bytes,
    wal_bytes,
)
from indexpilot_tui.errors import ServerError

_ALIGN = {"c": 1, "s": 2, "i": 4, "d": 8}
_MODELLED = ("btree", "hash", "gist", "gin", "spgist", "brin")
_VALIDATION = 12  # bytes a row that the second scan of a concurrent build sorts (reference, section 2.1)
_GIN_ELEMENTS = 4  # bytes that a byte of a text, an array or a document may take as elements: trigrams are the worst
_UNKNOWN_METHOD = 2  # times the table, with what is stored out of line: vectors with their graphs take about that
_TUPLE = 28  # tuple header and line pointer of a heap row, bytes


Builds = Callable[[], Awaitable[Sequence[MeasuredBuild]]]


def estimator(session: Session, plan: Plan, builds: Builds | None = None) -> Callable[[], Awaitable[BuildEstimate]]:
    """One estimate for all gates of an evaluation, made when the first one asks. `builds` tells what earlier ones took."""
    made: list[BuildEstimate] = []

    async def ask() -> BuildEstimate:
        if not made:
            earlier = await builds() if builds is not None and plan.kind != "drop" else ()
            made.append(await build_estimate(session, plan, earlier))
        return made[0]

    return ask


async def build_estimate(session: Session, plan: Plan, builds: Sequence[MeasuredBuild] = ()) -> BuildEstimate:
    """What the plan takes as things stand now. Raises ServerError when the server does not tell (the table is gone)."""
    if plan.kind == "drop":
        return BuildEstimate(0, 0, 0, None, "", "a drop frees space; how long it waits for others is not known")
    if not plan.builds:
        return BuildEstimate(0, 0, 0, None, "", "this step builds nothing; how long it waits for others is not known")
    table = await session.row(question("build_table", session), {"table_oid": plan.table_oid})
    if table is None or not table["tables"]:
        raise ServerError(f"the table {plan.schema}.{plan.table} has no storage that could be measured")
    if plan.kind == "reindex":
        return await _again(session, plan, table, builds)
    return _new(plan, table, await _columns(session, plan, reader=table["reader"]), builds)


async def _columns(session: Session, plan: Plan, *, reader: bool) -> dict[str, dict[str, Any]]:
    """Columns by name. Widths that this login may not see come from the reader of statistics, where there is one."""
    columns = {r["name"]: r for r in await session.rows(question("build_columns", session), {"table_oid": plan.table_oid})}
    if reader and any(row["avg_width"] is None for row in columns.values()):
        params = {"schema": plan.schema, "table": plan.table}
        widths = {r["name"]: r["avg_width"] for r in await session.rows(question("build_widths", session), params)}
        for name, row in columns.items():
            row["avg_width"] = row["avg_width"] or widths.get(name)
    return columns


async def _again(session: Session, plan: Plan, table: dict[str, Any], builds: Sequence[MeasuredBuild]) -> BuildEstimate:
    """A rebuild is at most as large as what stands there now; entries of 20 bytes are about the smallest there are."""
    index = await session.row(question("build_again", session), {"oid": plan.index_oid or 0})
    if index is None:
        raise ServerError(f"the index with OID {plan.index_oid} is gone")
    size = int(index["index_bytes"])
    key = max(8.0, size / max(1.0, table["rows"]) - 12)
    shape = _shape(plan.method, table, (KeyColumn(key, False, 8, 0.0, 0.0),), (), {}, unique=True)
    return _estimate(shape, size, table, str(index["tablespace"]), "as large as the index is now", builds)


def _new(
    plan: Plan, table: dict[str, Any], columns: dict[str, dict[str, Any]], builds: Sequence[MeasuredBuild]
) -> BuildEstimate:
    node = parse_index_statement(plan.ddl).tree.index_stmt
    widest = max(8.0, table["table_bytes"] / max(1.0, table["rows"]) - _TUPLE)  # what a row may hold at most, on average
    hidden: set[str] = set()
    keys = tuple(_column(param.index_elem, columns, widest, hidden) for param in node.index_params)
    included = tuple(_column(param.index_elem, columns, widest, hidden) for param in node.index_including_params)
    shape = _shape(plan.method, table, keys, included, _options(node), unique=plan.unique)
    basis = [f"{table['rows']:,.0f} rows"]
    if table["guessed"]:
        basis.append("at most: never analyzed")
    if hidden:
        basis.append(f"widths of {', '.join(sorted(hidden))} not known, so as wide as the table allows")
    if plan.method not in _MODELLED:
        size = _UNKNOWN_METHOD * int(table["table_bytes"])
        basis.append(f"no size model for {plan.method}: {_UNKNOWN_METHOD} times the table is assumed")
    else:
        size = estimate(shape).size_bytes
        if plan.method == "gin":
            wide = sum(k.width for k in keys)
            size = max(size, int(table["rows"] * (wide * _GIN_ELEMENTS + 8)))
    return _estimate(shape, size, table, node.table_space or table["default_tablespace"], "; ".join(basis), builds)


def _estimate(
    shape: IndexShape, size: int, table: dict[str, Any], tablespace: str, basis: str, builds: Sequence[MeasuredBuild]
) -> BuildEstimate:
    memory = int(table["maintenance_work_mem"])
    validation = int(table["rows"]) * _VALIDATION
    temp = max(temp_bytes(shape, memory), validation if validation > memory else 0)
    seconds = Rates(builds).seconds(shape, size)[1]  # the slow end, of builds here where there are any
    return BuildEstimate(size, temp, wal_bytes(size), seconds, tablespace, basis)


def _shape(
    method: str, table: dict[str, Any], keys: tuple[KeyColumn, ...], included: tuple[KeyColumn, ...],
    options: dict[str, str], *, unique: bool,
) -> IndexShape:  # fmt: skip
    return IndexShape(
        method=method,
        rows=float(table["rows"]),
        keys=keys,
        included=included,
        unique=unique,
        deduplicate=False,  # the upper bound
        fill=int(options["fillfactor"]) if options.get("fillfactor", "").isdigit() else None,
        heap_pages=math.ceil(table["heap_bytes"] / PAGE),
        pages_per_range=int(options["pages_per_range"]) if options.get("pages_per_range", "").isdigit() else PAGES_PER_RANGE,
    )


def _options(node: Any) -> dict[str, str]:
    found = {}
    for option in node.options:
        element = option.def_elem
        kind = element.arg.WhichOneof("node")
        found[element.defname] = str(element.arg.integer.ival) if kind == "integer" else element.arg.string.sval
    return found


def _column(element: Any, columns: dict[str, dict[str, Any]], widest: float, hidden: set[str]) -> KeyColumn:
    """A column as the size model wants it. An expression may be as wide as all its columns together."""
    if element.name:
        return _plain(columns[element.name], widest, hidden) if element.name in columns else _gone(element.name)
    parts = [_plain(columns[name], widest, hidden) for name in _names(element.expr) if name in columns]
    return KeyColumn(max(8.0, sum(p.width for p in parts)), True, 1, 0.0, 0.0)


def _gone(name: str) -> KeyColumn:
    raise ServerError(f"the table has no column {name} any more")


def _names(expression: Any) -> Iterable[str]:
    import postgast
    from postgast import pg_query_pb2 as pb

    for reference in postgast.find_nodes(expression, pb.ColumnRef):
        for part in postgast.find_nodes(reference, pb.String):
            yield part.sval


def _plain(row: dict[str, Any], widest: float, hidden: set[str]) -> KeyColumn:
    if row["length"] > 0:
        return KeyColumn(float(row["length"]), False, _ALIGN[row["align"]], 0.0, 0.0)
    if row["avg_width"] is None:
        hidden.add(row["name"])
        return KeyColumn(widest, True, 1, 0.0, 0.0)
    # entries are aligned to 8 bytes: at most 7 more than the mean, however the widths vary
    return KeyColumn(row["avg_width"] + 7.0, False, 1, 0.0, 0.0)
