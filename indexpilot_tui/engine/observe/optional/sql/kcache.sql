-- What the kernel counted for one statement since the reset, of whoever ran it: CPU seconds, bytes that were really read and written.
-- One row; nulls where nothing was counted. This is the extension before 2.2.
select /* indexpilot */ pg_catalog.clock_timestamp() as at, pg_catalog.sum(k.user_time)::float8 as user_s,
       pg_catalog.sum(k.system_time)::float8 as system_s, pg_catalog.sum(k.reads)::float8 as read_bytes,
       pg_catalog.sum(k.writes)::float8 as written_bytes
from {schema}.pg_stat_kcache() k
where k.queryid = %(queryid)s
  and k.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
