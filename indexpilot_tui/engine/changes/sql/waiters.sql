-- Who waits for a lock that our backend holds or waits for ahead of them ("behind"), and who else waits for the table of the build. Others that build concurrently wait for our transaction (virtualxid): they harm nobody.
select l.pid, l.mode, 0::float8 as waited_s,
       a.application_name, a.query, b.behind, coalesce(a.backend_xmin is not null, false) as snapshot
from pg_catalog.pg_locks l
cross join lateral (select %(pid)s = any (pg_catalog.pg_blocking_pids(l.pid)) as behind) b
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where not l.granted
  and l.locktype <> 'virtualxid'
  and l.pid <> %(pid)s
  and (b.behind or l.locktype = 'relation' and l.relation in (
      select p.relid from pg_catalog.pg_stat_progress_create_index p where p.pid = %(pid)s and p.datid = l.database))
