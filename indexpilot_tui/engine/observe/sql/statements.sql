-- Counters of pg_stat_statements 1.8 (PostgreSQL 13) for this database, without texts.
-- The version is the extension's, not the server's.
/* indexpilot */
select pg_catalog.clock_timestamp() as at, s.userid::int8 as userid, s.queryid, true as toplevel, s.calls, s.total_exec_time,
       s.stddev_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_read + s.temp_blks_written as temp_blks, s.wal_bytes::float8 as wal_bytes,
       null::timestamptz as stats_since, null::timestamptz as stats_reset, null::int8 as dealloc
from {schema}.pg_stat_statements(false) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
