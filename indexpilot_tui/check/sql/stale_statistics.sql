-- Tables of which a good part changed since their statistics were gathered, or that have rows and were never analysed.
/* indexpilot */
select n.nspname as schema_name, c.relname as table_name,
       pg_catalog.pg_stat_get_live_tuples(c.oid) as live,
       pg_catalog.pg_stat_get_mod_since_analyze(c.oid) as changed,
       greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) as last_analyze
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
  and pg_catalog.pg_stat_get_mod_since_analyze(c.oid)
      > greatest(%(rows)s::float8, %(share)s::float8 * greatest(pg_catalog.pg_stat_get_live_tuples(c.oid), c.reltuples))
order by 4 desc
limit 20
