-- The statements that cost this database the most, summed over roles. {schema} is where the extension lives.
-- One row, without a key, is of all that are hidden from this role. The text is that of the statement itself where it was
-- seen: an EXPLAIN of it, tracked as nested, has the same identifier.
/* indexpilot */
select s.queryid::text as key,
       coalesce(pg_catalog.min(s.query) filter (where s.query !~* '^\s*(explain|prepare|declare|copy|create)\M'),
                pg_catalog.min(s.query)) as query,
       pg_catalog.sum(s.calls)::float8 as calls, pg_catalog.sum(s.total_exec_time)::float8 as total_ms,
       pg_catalog.count(*)::int4 as entries
  from {schema}.pg_stat_statements s
 where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
 group by s.queryid
 order by total_ms desc, key
 limit {limit}
