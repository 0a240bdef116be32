-- Counters of user tables since the reset: writes, HOT updates, scans. Of all of them, or of those of which the oids are given.
-- The order of the columns is that of `tables.TableCounters`.
select /* indexpilot */ c.oid::int8, n.nspname::text, c.relname::text,
       pg_catalog.pg_stat_get_tuples_inserted(c.oid), pg_catalog.pg_stat_get_tuples_updated(c.oid),
       pg_catalog.pg_stat_get_tuples_hot_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid),
       pg_catalog.pg_stat_get_numscans(c.oid), pg_catalog.pg_stat_get_tuples_returned(c.oid),
       pg_catalog.pg_stat_get_live_tuples(c.oid), pg_catalog.pg_stat_get_dead_tuples(c.oid),
       pg_catalog.pg_stat_get_blocks_fetched(c.oid), pg_catalog.pg_stat_get_blocks_hit(c.oid)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and c.relpersistence <> 't'
  and (%(oids)s::int8[] is null or c.oid = any(%(oids)s::int8[]::pg_catalog.oid[]))
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
