"""Column statistics of a snapshot, written into a shadow database: through the server's own function from 18 on, before
that straight into pg_statistic, as ANALYZE would have left them there.

Texts of arrays come from the target or a file. The input function of the column's type parses them (of a domain, that of its
base type) in the session of a role without powers: through the server's function as the owner of the table, or through a
view of the catalog as a role that owns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Snapshot

RESTORE_FUNCTION = 180000  # pg_restore_attribute_stats
_TEXT_EQUAL, _FLOAT8_LESS, _DEFAULT_COLLATION = 98, 672, 100  # TextEqualOperator, Float8LessOperator, DEFAULT_COLLATION_OID
_SLOTS = 5  # STATISTIC_NUM_SLOTS, pg_statistic.h
# STATISTIC_KIND_*, pg_statistic.h
_MCV, _HISTOGRAM, _CORRELATION, _MCELEM, _DECHIST, _RANGE_LENGTH, _BOUNDS = 1, 2, 3, 4, 5, 6, 7

_STATS = (
    ("null_frac", "real"), ("avg_width", "integer"), ("n_distinct", "real"), ("most_common_vals", "text"),
    ("most_common_freqs", "real[]"), ("histogram_bounds", "text"), ("correlation", "real"),
    ("most_common_elems", "text"), ("most_common_elem_freqs", "real[]"), ("elem_count_histogram", "real[]"),
    ("range_length_histogram", "text"), ("range_empty_frac", "real"), ("range_bounds_histogram", "text"),
)  # fmt: skip
_RESTORE = (
    "select pg_restore_attribute_stats('version', %s::int, 'schemaname', %s::text, 'relname', %s::text,"
    " 'attnum', %s::smallint, 'inherited', %s::boolean"
    + "".join(f", '{name}', %s::{type_}" for name, type_ in _STATS)
    + ") as done"
)
_ATTRIBUTES = """
select n.nspname::text as schema, c.relname::text as relation, a.attname::text as name, a.attrelid::int8 as oid,
       a.attnum::int4 as number, a.atttypid::int8 as type, a.attcollation::int8 as collation
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
 where a.attrelid = any(%s::oid[]) and a.attnum > 0 and not a.attisdropped
"""
# What the type cache finds: the default operator class of the type itself, of its base type, or of what it is read as
# without conversion (typcache.c, GetDefaultOpClass); the element type of arrays, and what a range is made of.
_OPERATORS = """
with recursive base(root, oid) as (
  select t, t from unnest(%s::oid[]) as t
  union
  select b.root, t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typbasetype <> 0
), bottom as (
  select distinct on (b.root) b.root, t.* from base b join pg_type t on t.oid = b.oid
   where t.typbasetype = 0 order by b.root
), candidates as (
  select x.root, x.oid as type, 0 as rank from bottom x
  union all
  select x.root, v.type::oid, 1 from bottom x,
   lateral (values (case when x.typtype = 'e' then 'anyenum' when x.typtype = 'r' then 'anyrange'
                         when x.typtype = 'm' then 'anymultirange' when x.typtype = 'c' then 'record'
                         when x.typelem <> 0 and x.typlen = -1 and x.typcategory = 'A' then 'anyarray' end)) as n(name),
   lateral (select to_regtype(n.name)::oid) as v(type) where n.name is not null
  union all
  select x.root, k.casttarget, 2 from bottom x join pg_cast k on k.castsource = x.oid and k.castmethod = 'b'
   and k.castcontext = 'i'
), found as (
  select c.root, c.rank, m.amname, o.opcfamily, o.opcintype from candidates c
    join pg_opclass o on o.opcintype = c.type and o.opcdefault
    join pg_am m on m.oid = o.opcmethod and m.amname in ('btree', 'hash')
)
select x.root::int8 as type, x.oid::int8 as base,
       (select p.amopopr::int8 from found f join pg_amop p on p.amopfamily = f.opcfamily and p.amoplefttype = f.opcintype
           and p.amoprighttype = f.opcintype and p.amopstrategy = case f.amname when 'btree' then 3 else 1 end
         where f.root = x.root order by f.amname, f.rank limit 1) as eq,
       (select p.amopopr::int8 from found f join pg_amop p on p.amopfamily = f.opcfamily and p.amoplefttype = f.opcintype
           and p.amoprighttype = f.opcintype and p.amopstrategy = 1
         where f.root = x.root and f.amname = 'btree' order by f.rank limit 1) as lt,
       case when x.typname = 'tsvector' then 25 when x.typcategory = 'A' then x.typelem else 0 end::int8 as element
  from bottom x
"""
_COLUMNS = ", ".join(f"stakind{n}, staop{n}, stacoll{n}, stanumbers{n}, stavalues{n}" for n in range(1, _SLOTS + 1))
_SLOT = "%s::int2, %s::oid, %s::oid, %s::float4[], array_in(textout(%s::text), %s::oid, -1)"
_INSERT = f"""
insert into indexpilot_catalogs.pg_statistic
 (starelid, staattnum, stainherit, stanullfrac, stawidth, stadistinct, {_COLUMNS})
values (%s::oid, %s::int2, %s::bool, %s::float4, %s::int4, %s::float4, {", ".join([_SLOT] * _SLOTS)})
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column on the shadow, with the operators that its statistics name (0: the type has none)."""

    oid: int
    number: int
    type: int
    collation: int
    eq: int
    lt: int
    element: int
    element_eq: int


def _values(s: ColumnStats) -> tuple[Any, ...]:
    return (
        s.null_frac, s.avg_width, s.n_distinct, s.mcv, s.mcf, s.histogram, s.correlation, s.mce, s.mcef, s.elem_counts,
        s.range_lengths, s.range_empty, s.range_bounds,
    )  # fmt: skip


async def attributes(shadow: ShadowDatabase, oids: Iterable[int]) -> dict[tuple[str, str, str], Attribute]:
    """The columns of some relations (shadow OIDs) by schema, relation and name."""
    rows = await shadow.rows(_ATTRIBUTES, (list(oids),))
    operators = {r["type"]: r for r in await shadow.rows(_OPERATORS, (sorted({r["type"] for r in rows}),))}
    elements = sorted({o["element"] for o in operators.values() if o["element"]})
    of_elements = await shadow.rows(_OPERATORS, (elements,)) if elements else []
    inner, bases = {r["type"]: r["eq"] or 0 for r in of_elements}, {r["type"]: r["base"] for r in of_elements}
    found: dict[tuple[str, str, str], Attribute] = {}
    for r in rows:
        o = operators[r["type"]]
        found[r["schema"], r["relation"], r["name"]] = Attribute(
            r["oid"], r["number"], o["base"], r["collation"], o["eq"] or 0, o["lt"] or 0,
            bases.get(o["element"], o["element"]), inner.get(o["element"], 0),
        )  # fmt: skip
    return found


def _slots(a: Attribute, s: ColumnStats) -> list[tuple[Any, ...]]:
    """(kind, operator, collation, numbers, values, type of the values) in the order in which ANALYZE fills them."""
    slots: list[tuple[Any, ...]] = []
    if s.mcv is not None and s.mcf is not None and a.eq:
        slots.append((_MCV, a.eq, a.collation, s.mcf, s.mcv, a.type))
    if s.histogram is not None and a.lt:
        slots.append((_HISTOGRAM, a.lt, a.collation, None, s.histogram, a.type))
    if s.correlation is not None and a.lt:
        slots.append((_CORRELATION, a.lt, a.collation, f"{{{s.correlation}}}", None, 0))
    if s.mce is not None and s.mcef is not None and a.element:
        words = a.element == 25 and a.collation == 0  # the lexemes of a tsvector (ts_typanalyze.c)
        eq, collation = (_TEXT_EQUAL, _DEFAULT_COLLATION) if words else (a.element_eq, a.collation)
        slots.append((_MCELEM, eq, collation, s.mcef, s.mce, a.element))
    if s.elem_counts is not None and a.element:
        slots.append((_DECHIST, a.element_eq, a.collation, s.elem_counts, None, 0))
    if s.range_bounds is not None:
        slots.append((_BOUNDS, 0, 0, None, s.range_bounds, a.type))
    if s.range_lengths is not None:
        slots.append((_RANGE_LENGTH, _FLOAT8_LESS, 0, f"{{{s.range_empty or 0}}}", s.range_lengths, 701))
    return slots[:_SLOTS]


async def write(shadow: ShadowDatabase, a: Attribute, name: tuple[str, str], s: ColumnStats) -> None:
    """Statistics of one column (`name` is schema and relation); what was there must have been deleted.

    Raises psycopg.Error: a value that the type does not accept.
    """
    if shadow.cluster.version >= RESTORE_FUNCTION:
        await shadow.plainly(_RESTORE, (shadow.snapshot.server.version, *name, a.number, s.inherited, *_values(s)))
        return
    parameters: list[Any] = [a.oid, a.number, s.inherited, s.null_frac, s.avg_width, s.n_distinct]
    slots = _slots(a, s)
    for kind, operator, collation, numbers, values, type_ in [*slots, *[(0, 0, 0, None, None, 0)] * (_SLOTS - len(slots))]:
        parameters += [kind, operator, collation, numbers, values, type_]
    await shadow.catalog(_INSERT, parameters)


async def restore(shadow: ShadowDatabase, snapshot: Snapshot) -> None:
    """Replace all column statistics by those of the snapshot."""
    shadow.plans.clear()
    await shadow.rows("delete from pg_statistic where starelid >= 16384")
    wanted = {(r.schema, r.name): shadow.oids[oid] for oid, r in snapshot.relations.items() if oid in shadow.oids}
    wanted |= {(i.schema, i.name): shadow.oids[oid] for oid, i in snapshot.indexes.items() if oid in shadow.oids}
    known = await attributes(shadow, wanted.values())
    for s in snapshot.stats:
        attribute = known.get((s.schema, s.relation, s.column))
        if attribute is None:
            continue
        try:
            await write(shadow, attribute, (s.schema, s.relation), s)
        except psycopg.Error as exc:
            if shadow.power.closed or any(conn.closed for conn in shadow.unprivileged):
                raise
            reason = clean_line(exc.diag.message_primary or str(exc), 200)
            shadow.issues.append(f"statistics of {clean_line(f'{s.schema}.{s.relation}.{s.column}')}: {reason}")
