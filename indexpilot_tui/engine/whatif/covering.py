"""Whether a new index is needed at all: existing ones that answer every search that it would answer."""

from __future__ import annotations

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import MadeIndex

# Same method; for btree the new keys lead the old ones, else they are the same: by class, collation, direction, expression.
# A unique index enforces something, so only a unique one on the very same keys stands in for it.
_COVERING = """
select n.nspname::text as schema, c.relname::text as name, old.indnkeyatts = new.indnkeyatts as same_keys
  from pg_index new
  join pg_index old on old.indrelid = new.indrelid and old.indexrelid <> new.indexrelid and old.indisvalid
  join pg_class c on c.oid = old.indexrelid
  join pg_class nc on nc.oid = new.indexrelid and nc.relam = c.relam
  join pg_am am on am.oid = c.relam
  join pg_namespace n on n.oid = c.relnamespace
 where new.indexrelid = %s::oid
   and (am.amname = 'btree' and new.indnkeyatts <= old.indnkeyatts or old.indnkeyatts = new.indnkeyatts)
   and (not new.indisunique or old.indisunique and old.indnkeyatts = new.indnkeyatts)
   and (select bool_and(pg_get_indexdef(old.indexrelid, g, true) = pg_get_indexdef(new.indexrelid, g, true)
                        and old.indclass[g - 1] = new.indclass[g - 1]
                        and old.indcollation[g - 1] = new.indcollation[g - 1]
                        and old.indoption[g - 1] = new.indoption[g - 1])
          from generate_series(1, new.indnkeyatts) as g)
   and (new.indkey::int2[])[new.indnkeyatts : new.indnatts - 1] <@ (old.indkey::int2[])[0 : old.indnatts - 1]
   and pg_get_expr(old.indpred, old.indrelid) is not distinct from pg_get_expr(new.indpred, new.indrelid)
 order by 1, 2
"""


async def covered_by(shadow: ShadowDatabase, made: MadeIndex) -> list[str]:
    """Existing indexes (cleaned schema.name) that make this new one superfluous, by structure."""
    rows = await shadow.rows(_COVERING, (made.oid,))
    return [clean_line(f"{r['schema']}.{r['name']}") for r in rows]
