"""A real index on the shadow's empty table: made, measured against the size model, hollowed, switched and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import Attribute, MadeIndex
from indexpilot_tui.engine.whatif.sizing import current_files, point

_NEW = """
select i.indexrelid::int8 as oid, i.indrelid::int8 as table_oid, c.relname::text as name, n.nspname::text as schema,
       am.amname::text as method, c.relkind::text as kind, c.relfilenode::int8 as file, i.indisunique as is_unique,
       i.indnkeyatts::int4 as key_columns, c.reloptions,
       array(select k::int4 from unnest(i.indkey::int2[]) with ordinality as u(k, o) order by o) as columns,
       pg_get_expr(i.indpred, i.indrelid) as predicate,
       (select bool_and(exists (select 1 from pg_opclass o
                                  join pg_amproc p on p.amprocfamily = o.opcfamily and p.amprocnum = 4
                                   and p.amproclefttype = o.opcintype and p.amprocrighttype = o.opcintype
                                 where o.oid = k.class))
          from unnest(i.indclass::oid[]) as k(class))
         and not exists (select 1 from pg_collation co
                          where co.oid = any(i.indcollation::oid[]) and not co.collisdeterministic)
         as equal_image
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_am am on am.oid = c.relam
 where i.indrelid = any(%s::oid[]) and not i.indexrelid = any(%s::oid[])
 order by i.indexrelid
"""
_ATTRIBUTES = """
select a.attrelid::int8 as oid, a.attnum::int4 as number,
       a.attname::text as name, a.atttypid::int8 as type_oid, a.attlen::int4 as length,
       a.attalign::text as align, a.atttypmod as typmod, format_type(a.atttypid, a.atttypmod) as type,
       pg_get_indexdef(a.attrelid, a.attnum, true) as expression
  from pg_attribute a where a.attrelid = any(%s::oid[]) and a.attnum > 0 order by a.attrelid, a.attnum
"""


async def create(shadow: ShadowDatabase, ddl: sql.Composed, tables: Sequence[int]) -> list[MadeIndex]:
    """Run CREATE INDEX on the shadow while its tables (shadow OIDs, partitions included) look at their empty files.

    Raises psycopg.Error: an operator class or a function that is not there, a name that is taken.
    """
    before = await shadow.rows(
        "select indexrelid::int8 as oid from pg_index where indrelid = any(%s::oid[])", (list(tables),)
    )
    sized = await current_files(shadow, list(tables))
    state = {
        r["oid"]: (r["relpages"], r["reltuples"], r["relallvisible"])
        for r in await shadow.rows(
            "select oid::int8 as oid, relpages, reltuples::float8 as reltuples, relallvisible from pg_class"
            " where oid = any(%s::oid[])",
            (list(tables),),
        )
    }
    stored = [t for t in tables if shadow.empty_files.get(t)]
    if stored:
        await point(shadow, [(t, shadow.empty_files[t], 0, -1.0, 0) for t in stored])
    try:
        await shadow.foreign(ddl)
    finally:
        if stored:
            await point(shadow, [(t, sized[t], *state[t]) for t in stored])
    return await describe(shadow, tables, [r["oid"] for r in before])


async def describe(shadow: ShadowDatabase, tables: Sequence[int], known: Sequence[int] = ()) -> list[MadeIndex]:
    """Every index of some tables (shadow OIDs) but those in `known`, as `create` describes the one that it made."""
    rows = await shadow.rows(_NEW, (list(tables), list(known)))
    attributes: dict[int, list[dict[str, Any]]] = {r["oid"]: [] for r in rows}
    for a in await shadow.rows(_ATTRIBUTES, (list(attributes),)):
        attributes[a["oid"]].append(a)
    return [_made(r, attributes[r["oid"]]) for r in rows]


def _made(row: dict[str, Any], attributes: list[dict[str, Any]]) -> MadeIndex:
    return MadeIndex(
        oid=row["oid"],
        table_oid=row["table_oid"],
        schema=row["schema"],
        name=row["name"],
        method=row["method"],
        partitioned=row["kind"] == "I",
        file=row["file"],
        unique=row["is_unique"],
        key_columns=row["key_columns"],
        options=tuple(row["reloptions"] or ()),
        predicate=row["predicate"],
        equal_image=bool(row["equal_image"]),
        attributes=tuple(
            Attribute(a["number"], c, a["type"], a["type_oid"], a["length"], a["align"], a["typmod"], a["expression"])
            for a, c in zip(attributes, row["columns"], strict=True)
        ),
    )


async def drop(shadow: ShadowDatabase, made: Sequence[MadeIndex]) -> None:
    """Drop what `create` made; dropping the parent of a partitioned index drops its parts."""
    roots = [m for m in made if m.partitioned] or list(made)
    for m in roots:
        await shadow.foreign(sql.SQL("drop index if exists {}").format(sql.Identifier(m.schema, m.name)))


async def switch(shadow: ShadowDatabase, oids: Sequence[int], *, on: bool) -> None:
    """Show indexes to the planner, or hide them: it skips what is not valid (get_relation_info)."""
    await shadow.rows("update pg_index set indisvalid = %s where indexrelid = any(%s::oid[])", (on, list(oids)))
