-- Sessions that hold a lock on the table which the change has to wait for, oldest transaction first. A prepared transaction has no pid and is asked for elsewhere.
select 'pid ' || l.pid::text as who,
       extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(a.xact_start))::float8 as age_s
from pg_catalog.pg_locks l
join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and l.relation = %(table_oid)s::pg_catalog.oid
  and l.granted
  and l.pid <> all (%(own)s::int[])
  and a.backend_type <> 'autovacuum worker'
  and (%(any_lock)s or l.mode not in ('AccessShareLock', 'RowShareLock'))
group by l.pid
order by pg_catalog.min(a.xact_start) nulls first
