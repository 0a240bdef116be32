-- The same from extension 1.11 on (PostgreSQL 17), which tells the times of shared blocks from those of local ones.
-- The version is the extension's, not the server's. No times and no names: there may be thousands of rows, every refresh.
-- The order of the columns is that of `counters.read_of`.
select /* indexpilot */ s.userid::int8, s.queryid, s.toplevel,
       s.calls, s.total_exec_time, s.stddev_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_read + s.temp_blks_written, s.wal_bytes::float8,
       s.shared_blks_written, s.shared_blk_read_time, s.shared_blk_write_time, s.total_plan_time
from {schema}.pg_stat_statements(false) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
