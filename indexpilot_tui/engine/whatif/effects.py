"""What an index costs and replaces: writes that get dearer, indexes that become redundant."""

from __future__ import annotations

from collections.abc import Sequence

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed

# The columns that must not change for an update to stay HOT: of keys, INCLUDE, predicates and expressions
# (RelationGetIndexAttrBitmap); summarizing indexes (BRIN) do not count from PostgreSQL 16 on.
_BLOCKING = """
select i.indexrelid::int8 as index_oid, a.attname::text as column, am.amname::text as method
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
  join pg_am am on am.oid = c.relam
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum > 0 and not a.attisdropped
 where i.indrelid = %s::oid
   and (a.attnum = any(i.indkey::int2[])
        or exists (select 1 from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                      and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))
"""

# Same method, same leading columns with class, collation and direction; equal predicate; expressions equal up to there.
_PREFIX = """
select n.nspname::text as schema, c.relname::text as name, old.indnkeyatts = new.indnkeyatts as same_keys,
       exists (select 1 from pg_constraint k where k.conindid = old.indexrelid) as constrained,
       old.indisunique as is_unique, old.indisreplident as replica_identity
  from pg_index new
  join pg_index old on old.indrelid = new.indrelid and old.indexrelid <> new.indexrelid and old.indisvalid
  join pg_class c on c.oid = old.indexrelid
  join pg_class nc on nc.oid = new.indexrelid and nc.relam = c.relam
  join pg_am am on am.oid = c.relam
  join pg_namespace n on n.oid = c.relnamespace
 where new.indexrelid = %s::oid
   and (am.amname = 'btree' and old.indnkeyatts <= new.indnkeyatts or old.indnkeyatts = new.indnkeyatts)
   and (select bool_and(pg_get_indexdef(old.indexrelid, g, true) = pg_get_indexdef(new.indexrelid, g, true)
                        and old.indclass[g - 1] = new.indclass[g - 1]
                        and old.indcollation[g - 1] = new.indcollation[g - 1]
                        and old.indoption[g - 1] = new.indoption[g - 1])
          from generate_series(1, old.indnkeyatts) as g)
   and (old.indkey::int2[])[old.indnkeyatts : old.indnatts - 1] <@ (new.indkey::int2[])[0 : new.indnatts - 1]
   and pg_get_expr(old.indpred, old.indrelid) is not distinct from pg_get_expr(new.indpred, new.indrelid)
 order by 1, 2
"""


async def redundant(shadow: ShadowDatabase, made: MadeIndex) -> tuple[list[str], list[str]]:
    """Existing indexes that the new one makes redundant (cleaned schema.name), by structure and not by text, and notes.

    Those that enforce something (unique, constraint, replica identity) are never called redundant.
    """
    found: list[str] = []
    notes: list[str] = []
    for row in await shadow.rows(_PREFIX, (made.oid,)):
        name = clean_line(f"{row['schema']}.{row['name']}")
        if row["same_keys"]:
            notes.append(f"{name} already has exactly these key columns")
        if not (row["constrained"] or row["is_unique"] or row["replica_identity"]):
            found.append(name)
    return found, notes


async def blocking_columns(shadow: ShadowDatabase, table: int, version: int) -> dict[int, set[str]]:
    """Columns of each index (shadow OID) on a table (shadow OID) that keep an update from being HOT."""
    found: dict[int, set[str]] = {}
    for row in await shadow.rows(_BLOCKING, (table,)):
        if row["method"] != "brin" or version < 160000:
            found.setdefault(row["index_oid"], set()).add(row["column"])
    return found


def hot_lost(
    snapshot: Snapshot, relation: Relation, columns: dict[int, set[str]], new: set[int], parsed: Sequence[Parsed]
) -> tuple[float | None, str]:
    """Share (0..100) of the updates that are HOT today and would no longer be, and what that rests on.

    From the UPDATE statements of the workload, by calls: those that write a column of the new index and none of an index
    that is there. None when updates happen and the workload does not show them.
    """
    counters = snapshot.activity.get(relation.oid)
    watched = set().union(*(c for oid, c in columns.items() if oid in new), set())
    today = set().union(*(c for oid, c in columns.items() if oid not in new), set())
    updates = [
        p
        for p in parsed
        if p.writes and p.target is not None and snapshot.resolved.get(p.target) == relation.oid and not p.refused
    ]
    if not updates:
        if counters is not None and counters.updated == 0:
            return 0.0, "no row of the table was updated since its statistics were reset"
        return None, "the table is updated, but the workload shows no UPDATE of it"
    hot = [p for p in updates if not set(p.writes) & today]
    weight = sum(p.statement.calls for p in hot)
    lost = sum(p.statement.calls for p in hot if set(p.writes) & watched)
    if weight == 0:
        return 0.0, "no UPDATE of the workload is HOT today"
    measured = ""
    if counters is not None and counters.updated:
        measured = f"; measured now: {100 * counters.hot_updated / counters.updated:.0f} % of updates are HOT"
    return 100.0 * lost / weight, f"{len(updates)} UPDATE statements of the workload{measured}"
