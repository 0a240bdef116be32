-- Calls and execution time of statements that write a table, one row for each entry that is still counted: pg_stat_statements has
-- one for each user and statement, and forgets single ones.
select /* indexpilot */ s.queryid, s.userid::int8 as userid, true as toplevel, s.calls::float8 as calls, s.total_exec_time as total_ms
from {schema}.pg_stat_statements(false) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid = any(%(queryids)s)
