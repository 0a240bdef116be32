-- Calls and execution time of the statements that write rows, since the reset: the mean between two readings is the write latency that
-- the server itself can tell (a commit's own wait is not in it). One row.
select /* indexpilot */ pg_catalog.clock_timestamp() as at, pg_catalog.sum(s.calls)::int8 as calls,
       pg_catalog.sum(s.total_exec_time)::float8 as total_ms
from {schema}.pg_stat_statements(false) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid = any(%(queryids)s)
