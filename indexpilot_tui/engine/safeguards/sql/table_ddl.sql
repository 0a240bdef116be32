-- Others that hold or wait for a lock on the table which excludes our own (ShareUpdateExclusive and stronger).
select l.pid, l.mode, l.granted, a.query
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and l.relation = %(table_oid)s::pg_catalog.oid
  and l.pid is not null
  and l.pid <> all (%(own)s::int[])
  and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  and not coalesce(a.backend_type = 'autovacuum worker' and a.query not like '%%to prevent wraparound%%', false)
order by l.granted desc, l.pid
