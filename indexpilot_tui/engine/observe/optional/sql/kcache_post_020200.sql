-- The same from 2.2 on, which tells execution from planning.
select /* indexpilot */ pg_catalog.clock_timestamp() as at, pg_catalog.sum(k.exec_user_time)::float8 as user_s,
       pg_catalog.sum(k.exec_system_time)::float8 as system_s, pg_catalog.sum(k.exec_reads)::float8 as read_bytes,
       pg_catalog.sum(k.exec_writes)::float8 as written_bytes
from {schema}.pg_stat_kcache() k
where k.queryid = %(queryid)s
  and k.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
