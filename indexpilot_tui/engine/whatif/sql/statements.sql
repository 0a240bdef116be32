-- The statements that cost this database the most, summed over roles. {schema} is where the extension lives.
/* indexpilot */
select s.queryid::text as key, pg_catalog.min(s.query) as query, pg_catalog.sum(s.calls)::float8 as calls,
       pg_catalog.sum(s.total_exec_time)::float8 as total_ms
  from {schema}.pg_stat_statements s
 where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
   and s.queryid is not null
 group by s.queryid
 order by total_ms desc, key
 limit {limit}
