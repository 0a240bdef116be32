"""Extended statistics of a snapshot, written into a shadow database: distinct counts and dependencies as the bytes that the
target stores, most common combinations and expressions through a scratch table.

The stored form of a list of most common combinations depends on its types. So the combinations are put into a scratch
table, ANALYZE makes a list of them, and the target's frequencies take the place of its own (statext_mcv_serialize, mcv.c:
the items are at the end, each the null flags, two float8 and the indexes of its values).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import definitions, statistics
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import ExtendedStats, Relation, Snapshot

_SCRATCH = sql.Identifier("public", "indexpilot_scratch")
_OBJECT = sql.Identifier("public", "indexpilot_scratch_mcv")
_INHERIT = 150000  # pg_statistic_ext_data.stxdinherit
_INSERT = """
insert into indexpilot_catalogs.pg_statistic_ext_data (stxoid, stxdndistinct, stxddependencies, stxdmcv)
select e.oid, %(ndistinct)s::bytea::pg_ndistinct, %(dependencies)s::bytea::pg_dependencies, %(mcv)s::bytea::pg_mcv_list
  from pg_statistic_ext e join pg_namespace n on n.oid = e.stxnamespace
 where n.nspname = %(schema)s and e.stxname = %(name)s
"""
_INSERT_INHERITED = _INSERT.replace("stxoid, ", "stxoid, stxdinherit, ").replace("e.oid, ", "e.oid, %(inherited)s, ")


async def restore(shadow: ShadowDatabase, snapshot: Snapshot) -> None:
    """Replace the data of all extended statistics by those of the snapshot; what cannot be taken over is an issue."""
    await shadow.rows("delete from pg_statistic_ext_data")
    for e in snapshot.extended:
        relation = snapshot.relations.get(e.table_oid)
        if relation is None or e.table_oid not in shadow.oids or not e.known:
            continue
        try:
            await _one(shadow, e, relation)
        except definitions.DefinitionError as exc:
            shadow.issues.append(f"statistics {clean_line(f'{e.schema}.{e.name}')}: {exc}")
        except psycopg.Error as exc:
            if shadow.power.closed or any(conn.closed for conn in shadow.unprivileged):
                raise
            reason = clean_line(exc.diag.message_primary or str(exc), 200)
            shadow.issues.append(f"statistics {clean_line(f'{e.schema}.{e.name}')}: {reason}")


async def _one(shadow: ShadowDatabase, e: ExtendedStats, relation: Relation) -> None:
    mcv = await _most_common(shadow, e, relation) if e.mcv else None
    await shadow.catalog(
        _INSERT_INHERITED if shadow.cluster.version >= _INHERIT else _INSERT,
        {"inherited": e.inherited, "ndistinct": e.ndistinct, "dependencies": e.dependencies, "mcv": mcv,
         "schema": e.schema, "name": e.name},
    )  # fmt: skip
    if any(e.expression_stats):
        await _expressions(shadow, e, relation)


async def _scratch(shadow: ShadowDatabase, relation: Relation, items: Sequence[sql.Composable]) -> None:
    """An empty table with the types of some columns and expressions of a relation. The texts of expressions come from the
    target, so this runs as the role without powers."""
    named = [sql.SQL("({}) as {}").format(item, sql.Identifier(f"c{n}")) for n, item in enumerate(items, 1)]
    await shadow.foreign(
        sql.SQL("create unlogged table {} as select {} from {} with no data").format(
            _SCRATCH, sql.SQL(", ").join(named), sql.Identifier(relation.schema, relation.name)
        )
    )


async def _drop_scratch(shadow: ShadowDatabase) -> None:
    await shadow.foreign(sql.SQL("drop table if exists {}").format(_SCRATCH))


async def _most_common(shadow: ShadowDatabase, e: ExtendedStats, relation: Relation) -> bytes:
    """The list of most common combinations in the form in which the shadow stores it."""
    columns = [*(sql.Identifier(c) for c in e.columns), *(sql.SQL(definitions.expression(x)) for x in e.expressions)]
    wanted = {
        tuple(None if null else value for value, null in zip(values, nulls, strict=True)): (frequency, base)
        for values, nulls, frequency, base in zip(e.mcv, e.mcv_nulls, e.mcf, e.mcf_base, strict=True)
    }
    await _drop_scratch(shadow)
    try:
        await _scratch(shadow, relation, columns)
        marks = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        async with shadow.plain.cursor() as cursor:
            await cursor.executemany(sql.SQL("insert into {} values ({})").format(_SCRATCH, marks), list(wanted) * 2)
        names = sql.SQL(", ").join(sql.Identifier(f"c{n}") for n in range(1, len(columns) + 1))
        await shadow.foreign(sql.SQL("create statistics {} (mcv) on {} from {}").format(_OBJECT, names, _SCRATCH))
        await shadow.foreign(sql.SQL("alter statistics {} set statistics 10000").format(_OBJECT))
        await shadow.foreign(sql.SQL("analyze {}").format(_SCRATCH))
        rows = await shadow.catalog(
            "select d.stxdmcv::bytea as list, m.values, m.nulls from pg_statistic_ext e"
            "  join indexpilot_catalogs.pg_statistic_ext_data d on d.stxoid = e.oid"
            " cross join lateral pg_mcv_list_items(d.stxdmcv) m"
            " where e.stxrelid = to_regclass('public.indexpilot_scratch') order by m.index"
        )
    finally:
        await _drop_scratch(shadow)
    if not rows:
        raise psycopg.DataError("the list of common combinations could not be made")
    found = [wanted.get(tuple(None if null else v for v, null in zip(r["values"], r["nulls"], strict=True))) for r in rows]
    return _with_frequencies(bytes(rows[0]["list"]), len(columns), found)


def _with_frequencies(stored: bytes, width: int, frequencies: Sequence[tuple[float, float] | None]) -> bytes:
    """`stored` with other frequencies and base frequencies. Raises psycopg.DataError when an item has none."""
    if None in frequencies:
        raise psycopg.DataError("the shadow writes a common combination in another way than the target")
    item = width * 3 + 16  # a bool and a uint16 a column, two float8
    image, start = bytearray(stored), len(stored) - item * len(frequencies)
    for n, pair in enumerate(frequencies):
        if pair is not None:
            struct.pack_into("=dd", image, start + n * item + width, *pair)
    return bytes(image)


async def _expressions(shadow: ShadowDatabase, e: ExtendedStats, relation: Relation) -> None:
    """Statistics of expressions are kept as an array of pg_statistic rows: those of a scratch table's columns."""
    await _drop_scratch(shadow)
    try:
        await _scratch(shadow, relation, [sql.SQL(definitions.expression(x)) for x in e.expressions])
        rows = await shadow.rows("select to_regclass('public.indexpilot_scratch')::oid::int8 as oid")
        known = await statistics.attributes(shadow, [rows[0]["oid"]])
        name = ("public", "indexpilot_scratch")
        for n, stats in enumerate(e.expression_stats, 1):
            if stats is not None:
                await statistics.write(shadow, known[(*name, f"c{n}")], name, stats)
        await shadow.catalog(
            "update indexpilot_catalogs.pg_statistic_ext_data d"
            " set stxdexpr = (select array_agg(s order by s.staattnum) from pg_statistic s"
            "  where s.starelid = to_regclass('public.indexpilot_scratch'))"
            " from pg_statistic_ext e join pg_namespace n on n.oid = e.stxnamespace"
            " where d.stxoid = e.oid and n.nspname = %s and e.stxname = %s",
            (e.schema, e.name),
        )
    finally:
        await _drop_scratch(shadow)
