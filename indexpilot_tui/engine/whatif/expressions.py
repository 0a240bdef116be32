"""Statistics of an expression index that was never analyzed, derived from those of the column under it.

ANALYZE would compute the expression for a sample of the rows. The statistics of the column are such a sample, so the
expression is computed for its common values and its histogram. Only built-in functions can be in it: the shadow has no
others.
"""

from __future__ import annotations

import math
from datetime import date

import psycopg
from psycopg import sql

from indexpilot_tui.engine.whatif import definitions, statistics
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import Attribute, MadeIndex
from indexpilot_tui.engine.whatif.shape import absolute_distinct, numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Relation

# Each value of the column, by its role, with the expression next to it. Frequencies follow the common values.
_COMPUTE = """
with v(role, ord, {column}) as (
  select 'c', o, x from unnest({mcv}::text::{type}[]) with ordinality as t(x, o)
  union all
  select 'h', o, x from unnest({histogram}::text::{type}[]) with ordinality as t(x, o)
), e as (select role, ord, ({expression}) as value from v)
select role, ord::int4 as ord, value::text as text, pg_column_size(value) as width,
       dense_rank() over (order by value)::int4 as rank, row_number() over (partition by role order by value)::int4 as place
  from e where value is not null order by role, value
"""
_COLUMNS = """
select distinct d.refobjsubid::int4 as number from pg_depend d
 where d.classid = 'pg_class'::regclass and d.objid = %s::oid and d.refclassid = 'pg_class'::regclass
   and d.refobjid = %s::oid and d.refobjsubid > 0
"""


async def derive(shadow: ShadowDatabase, made: MadeIndex, relation: Relation) -> tuple[dict[int, ColumnStats], list[str]]:
    """Statistics for the expression columns of an index, by column number, restored on the shadow as well; and notes."""
    found: dict[int, ColumnStats] = {}
    notes: list[str] = []
    expressions = [a for a in made.attributes if a.column == 0 and a.number <= made.key_columns]
    if not expressions:
        return found, notes
    numbers_used = [r["number"] for r in await shadow.rows(_COLUMNS, (made.oid, made.table_oid))]
    by_number = {c.number: c for c in relation.columns}
    for attribute in expressions:
        base = by_number.get(numbers_used[0]) if len(numbers_used) == 1 else None
        stats = shadow.snapshot.column_stats(relation, base.name) if base else None
        derived = await _derive_one(shadow, made, attribute, relation, stats, base.type) if base and stats else None
        if derived is None:
            notes.append(f"no statistics can be derived for the expression {attribute.expression[:80]}")
            continue
        found[attribute.number] = derived
        notes.append("statistics of the expression are derived; the target has them only after ANALYZE")
    return found, notes


async def _derive_one(
    shadow: ShadowDatabase, made: MadeIndex, attribute: Attribute, relation: Relation, stats: ColumnStats, type_: str
) -> ColumnStats | None:
    if stats.mcv is None and stats.histogram is None:
        return None
    try:
        type_ = definitions.type_name(type_)
    except definitions.DefinitionError:
        return None
    query = sql.SQL(_COMPUTE).format(
        column=sql.Identifier(stats.column), type=sql.SQL(type_), expression=sql.SQL(attribute.expression),
        mcv=sql.Literal(stats.mcv), histogram=sql.Literal(stats.histogram),
    )  # fmt: skip
    try:
        async with shadow.plain.cursor(binary=True) as cursor:
            await cursor.execute(query)
            rows = [tuple(r) for r in await cursor.fetchall()]
    except psycopg.Error:
        return None  # e.g. the expression fails for a value that no row has any more; the caller says so
    return await _restore(shadow, made, attribute, relation, stats, rows)


def _most(texts: list[str]) -> float:
    """How many values there can be between the least and the greatest of some days or integers; infinite for others."""
    for read in (int, lambda t: date.fromisoformat(t).toordinal()):
        try:
            found = [read(t) for t in texts]
        except ValueError:
            continue  # not of this kind
        return float(max(found) - min(found) + 1)
    return math.inf


def _array(items: list[str]) -> str | None:
    """A one-dimensional array in its text form; None when it would be empty."""
    quoted = ('"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"' for x in items)
    return "{" + ",".join(quoted) + "}" if items else None


def _frequencies(items: list[float]) -> str | None:
    return "{" + ",".join(f"{x:.9g}" for x in items) + "}" if items else None


async def _restore(
    shadow: ShadowDatabase, made: MadeIndex, attribute: Attribute, relation: Relation, stats: ColumnStats,
    rows: list[tuple[object, ...]],
) -> ColumnStats | None:  # fmt: skip
    frequencies = numbers(stats.mcf)
    common: dict[int, tuple[str, float]] = {}
    bounds: list[tuple[int, str]] = []
    widths: list[int] = []
    for role, ord_, text, width, rank, _place in rows:
        if not (isinstance(ord_, int) and isinstance(text, str) and isinstance(width, int) and isinstance(rank, int)):
            return None
        widths.append(width)
        if role == "c":
            common[rank] = (text, common.get(rank, (text, 0.0))[1] + frequencies[ord_ - 1])
        else:
            bounds.append((rank, text))
    if not widths:
        return None
    total = shadow.snapshot.rows(relation.oid)
    distinct_before = absolute_distinct(stats.n_distinct, total)
    kinds, seen = len({r for r, _ in bounds} | set(common)), len(bounds) + len(frequencies)
    share = kinds / seen if seen else 1.0
    # distinct values shrink as those of the sample do; a sample that collapsed to few values has them all
    distinct = distinct_before * share if share > 0.5 else float(kinds)
    distinct = distinct_before if share > 0.98 else distinct
    distinct = min(distinct, _most([*(t for t, _ in common.values()), *(t for _, t in bounds)]))
    order = sorted(common, key=lambda r: -common[r][1])
    outside = [(r, t) for r, t in bounds if r not in common]
    histogram = [t for _, t in sorted(outside)] if len({r for r, _ in outside}) > 1 else []
    derived = ColumnStats(
        made.schema, made.name, "", False, stats.null_frac, max(1, round(sum(widths) / len(widths))),
        distinct if stats.n_distinct >= 0 or distinct < distinct_before else stats.n_distinct,
        _array([common[r][0] for r in order]), _frequencies([common[r][1] for r in order]), _array(histogram), None, None,
        None, None, None, None, None,
    )  # fmt: skip
    attributes = await statistics.attributes(shadow, [made.oid])
    target = next(a for a in attributes.values() if a.number == attribute.number)
    await shadow.rows("delete from pg_statistic where starelid = %s::oid and staattnum = %s", (made.oid, attribute.number))
    await statistics.write(shadow, target, (made.schema, made.name), derived)
    return derived
