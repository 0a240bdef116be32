-- Who waits for a lock that our backend holds or waits for ahead of them, and for how long (14+). Others that build concurrently wait for our transaction (virtualxid): they harm nobody.
select l.pid, l.mode,
       coalesce(extract(epoch from pg_catalog.clock_timestamp() - l.waitstart), 0)::float8 as waited_s,
       a.application_name, a.query
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where not l.granted
  and l.locktype <> 'virtualxid'
  and l.pid <> %(pid)s
  and %(pid)s = any (pg_catalog.pg_blocking_pids(l.pid))
