"""From statistics to the inputs of the size model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.comparisons import share_correction
from indexpilot_tui.engine.whatif.distinct import SAMPLE, absolute_distinct, corrected_distinct, joint, numbers, sample_of
from indexpilot_tui.engine.whatif.gin_elements import classes
from indexpilot_tui.engine.whatif.made import Attribute, MadeIndex
from indexpilot_tui.engine.whatif.sizes import PAGES_PER_RANGE, IndexShape, KeyColumn
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Relation, Snapshot
from indexpilot_tui.engine.whatif.widths import SHORT, stored_widths

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.database import ShadowDatabase

__all__ = ["absolute_distinct", "key_column", "mean_key_width", "numbers", "selectivity", "shape_of"]

_ALIGN = {"c": 1, "s": 2, "i": 4, "d": 8}
_TYPE_WIDTH = 32.0  # get_typavgwidth of a varlena without limit, lsyscache.c
_CSTRING, _NAME_WIDTH = -2, 16.0  # typlen, and a guess
_TRIGRAM_KINDS = 20_000.0  # distinct trigrams of natural text, an order of magnitude


def key_column(
    attribute: Attribute, stats: ColumnStats | None, rows: float, *, method: str = "btree", column_type: str = "",
    sample: int = SAMPLE,
) -> KeyColumn:  # fmt: skip
    """One index column for the size model; `rows` are those of the whole table, of which ANALYZE looked at `sample`;
    `column_type` the type of the column that a GIN index takes its elements from."""
    fixed = attribute.length > 0
    padded = attribute.type.startswith("character(") and attribute.typmod > 4
    width = float(attribute.length) if fixed else float(stats.avg_width if stats and stats.avg_width else _TYPE_WIDTH)
    widths = stored_widths(attribute.type, stats) if stats and not fixed and not padded and width <= SHORT else ()
    if attribute.length == _CSTRING:  # a name: the column has all of its 64 bytes, the index does not
        width = sum(w * share for w, share in widths) if widths else _NAME_WIDTH
    align = _ALIGN[attribute.align] if fixed or width > 126 else 1  # a short varlena is not aligned
    if stats is None:
        return KeyColumn(width, not fixed and not padded, align, 0.0, 0.0, elements=_elements(None, width))
    distinct = min(corrected_distinct(stats, rows, sample), max(1.0, rows))
    common = numbers(stats.mcf)
    kinds = 0.0
    if method == "gin":
        known = len(numbers(stats.mcef)) - 3 if stats.mcef else 0  # the last three are min, max and null frequency
        kinds = max(_TRIGRAM_KINDS if attribute.type in ("integer",) else 0.0, float(max(0, known)))
    return KeyColumn(
        width, not fixed and not padded, align, float(stats.null_frac), distinct, common,
        elements=_elements(stats, width), element_kinds=kinds,
        widths=widths,
        classes=classes(column_type, attribute.type, stats, rows) if method == "gin" else (),
    )  # fmt: skip


def _elements(stats: ColumnStats | None, width: float) -> float:
    """Mean number of elements a row that GIN would index: from the statistics of arrays, else from the width."""
    counts = numbers(stats.elem_counts) if stats else ()
    if counts:
        return counts[-1]  # the mean number of distinct elements closes the histogram (pg_statistic.h, DECHIST)
    return max(1.0, width / 9)  # a lexeme, key or trigram with its overhead, roughly


async def selectivity(shadow: ShadowDatabase, relation: Relation, predicate: str, rows: float) -> float:
    """The share of the rows that satisfy a partial index's predicate, as the planner estimates it."""
    query = sql.SQL("explain (format json) select * from {} where {}").format(
        sql.Identifier(relation.schema, relation.name), sql.SQL(predicate)
    )
    async with shadow.plain.cursor(binary=True) as cursor:
        await cursor.execute(query)
        row = await cursor.fetchone()
    estimated = float(row[0][0]["Plan"]["Plan Rows"]) if row else rows
    return min(1.0, estimated / rows) if rows > 0 else 1.0


def compares_columns(predicate: str) -> bool:
    """Whether a predicate compares columns with each other: its selectivity is then a guess (scalarineqsel's default)."""
    import postgast
    from postgast import pg_query_pb2 as pb

    try:
        tree = parsing.parse(f"select where {predicate}")
    except postgast.PgQueryError:
        return True  # nested too deep to be looked at, so it is not known better
    sides = [(e.lexpr, e.rexpr) for e in postgast.find_nodes(tree, pb.A_Expr) if e.kind == pb.AEXPR_OP]
    return any(all(list(postgast.find_nodes(x, pb.ColumnRef)) for x in pair) for pair in sides)


def _never_analyzed(snapshot: Snapshot, table: int) -> list[Relation]:
    """The parts of a table that have pages, and no number of rows."""
    members = [m for m in snapshot.members(table) if m in snapshot.sizes]
    return [snapshot.relations[m] for m in members if snapshot.sizes[m].reltuples < 0 and snapshot.sizes[m].pages > 0]


async def _rows_by_size(shadow: ShadowDatabase, relations: Sequence[Relation]) -> float:
    """Rows of tables as the planner guesses them from their pages and the widths of their types."""
    rows = 0.0
    for relation in relations:
        query = sql.SQL("explain (format json) select from only {}").format(
            sql.Identifier(relation.schema, relation.name)
        )  # fmt: skip
        async with shadow.plain.cursor(binary=True) as cursor:
            await cursor.execute(query)
            row = await cursor.fetchone()
        rows += float(row[0][0]["Plan"]["Plan Rows"]) if row else 0.0
    return rows


async def shape_of(
    shadow: ShadowDatabase, made: MadeIndex, table: int, derived: dict[int, ColumnStats]
) -> tuple[IndexShape, list[str]]:
    """The inputs of the size model for one index on the table with the target's OID `table`, and what is not sure about
    them. `derived` are statistics of the index's own expression columns, by column number."""
    snapshot = shadow.snapshot
    relation = snapshot.relations[table]
    rows, unknown = snapshot.rows(table), _never_analyzed(snapshot, table)
    reasons: list[str] = []
    if unknown:
        rows += await _rows_by_size(shadow, unknown)
        reasons.append("it was never analyzed, so its rows are guessed from its size")
    share = 1.0
    if made.predicate:
        try:
            share = await selectivity(shadow, relation, made.predicate, rows)
        except psycopg.Error as exc:
            reasons.append(f"the predicate's share of rows is unknown ({clean_line(str(exc), 120)}); all are assumed")
        if compares_columns(made.predicate):
            factor = share_correction(snapshot, relation, made.predicate)
            share = min(1.0, share * factor)
            known = "the planner's default" if factor == 1.0 else "what both columns give if they are independent"
            reasons.append(
                "the predicate compares columns with each other, for which there are no statistics: that "
                f"{100 * share:.0f} % of the rows satisfy it is {known}"
            )
    names = {c.number: c.name for c in relation.columns}
    types = {c.number: c.type for c in relation.columns}
    columns: list[KeyColumn] = []
    sample = sample_of(snapshot, relation)
    for attribute in made.attributes:
        stats = derived.get(attribute.number)
        if stats is None and attribute.column in names:
            stats = snapshot.column_stats(relation, names[attribute.column])
        if stats is None and attribute.number <= made.key_columns and rows > 0:
            reasons.append(f"no statistics for {clean_line(attribute.expression, 60)}, so the index size is a guess")
        of = types.get(attribute.column, "")
        columns.append(key_column(attribute, stats, rows, method=made.method, column_type=of, sample=sample))
    options = dict(o.split("=", 1) for o in made.options)
    loose = {c.number for c in relation.columns if c.collation is not None and not c.collation.deterministic}
    equal = made.equal_image and not any(a.column in loose for a in made.attributes)  # the shadow may lack that collation
    deduplicate = equal and options.get("deduplicate_items", "on") in ("on", "true", "1", "yes")
    together = joint(snapshot, relation, [a.column for a in made.attributes[: made.key_columns]], rows)
    return IndexShape(
        method=made.method,
        rows=rows * share,
        keys=tuple(columns[: made.key_columns]),
        included=tuple(columns[made.key_columns :]),
        unique=made.unique,
        deduplicate=deduplicate,
        fill=int(options["fillfactor"]) if "fillfactor" in options else None,
        heap_pages=sum(snapshot.sizes[m].pages for m in snapshot.members(table) if m in snapshot.sizes),
        pages_per_range=int(options.get("pages_per_range", PAGES_PER_RANGE)),
        share=share,
        joint=together.distinct,
        joint_basis=clean_line(together.basis, 200),
        between=together.between,
    ), reasons


def mean_key_width(shape: IndexShape) -> float:
    """Width of the key alone, for the height."""
    return sum(k.width if k.varying else math.ceil(k.width / k.align) * k.align for k in shape.keys)
