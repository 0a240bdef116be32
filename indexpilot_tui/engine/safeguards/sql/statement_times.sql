-- Calls and execution time of statements that write a table, one row for each that is still counted: pg_stat_statements forgets single ones.
-- Summed exactly (numeric), in whatever order the entries come: a time that seems to go back would mean that one was forgotten.
select /* indexpilot */ s.queryid, pg_catalog.sum(s.calls)::float8 as calls, pg_catalog.sum(s.total_exec_time::numeric)::float8 as total_ms
from {schema}.pg_stat_statements(false) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid = any(%(queryids)s)
group by s.queryid
