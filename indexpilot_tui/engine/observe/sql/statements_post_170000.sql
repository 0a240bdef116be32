-- The same from extension 1.11 on (PostgreSQL 17): each entry knows since when it counts.
-- The version is the extension's, not the server's.
/* indexpilot */
select pg_catalog.clock_timestamp() as at, s.userid::int8 as userid, s.queryid, s.toplevel, s.calls, s.total_exec_time,
       s.stddev_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_read + s.temp_blks_written as temp_blks, s.wal_bytes::float8 as wal_bytes,
       s.stats_since, i.stats_reset, i.dealloc
from {schema}.pg_stat_statements(false) s
cross join {schema}.pg_stat_statements_info() i
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
