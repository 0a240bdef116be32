-- Counters of the statements of this database that may touch a table (its name occurs in the text), and the hidden ones. {schema}: home of the extension.
select s.queryid::text as queryid, s.userid::int8 as userid, s.dbid::int8 as dbid, null::boolean as toplevel, s.query,
       s.calls::int8 as calls, s.total_exec_time, s.mean_exec_time, s.stddev_exec_time, s.rows::int8 as rows,
       s.wal_bytes::int8 as wal_bytes,
       (s.shared_blks_hit + s.shared_blks_read + s.local_blks_hit + s.local_blks_read + s.temp_blks_read)::int8 as blocks,
       null::text as stats_since
from {schema}.pg_stat_statements s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and (s.queryid is null or pg_catalog.strpos(pg_catalog.lower(s.query), pg_catalog.lower(%(table)s)) > 0)
