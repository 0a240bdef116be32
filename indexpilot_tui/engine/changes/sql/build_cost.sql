-- What statements that build indexes wrote. {schema}: home of pg_stat_statements.
select s.query, s.calls::int8 as calls, s.wal_bytes::int8 as wal_bytes,
       (s.temp_blks_written * pg_catalog.current_setting('block_size')::int8)::int8 as temp_bytes
from {schema}.pg_stat_statements s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.query ~* '^\s*(create|reindex)\M'
order by s.total_exec_time desc
limit 500
