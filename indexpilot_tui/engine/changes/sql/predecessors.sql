-- Sessions of earlier executors of this change that still hold its table's lock. The epoch has fenced them: they are stopped or hung.
select a.pid, a.backend_start, a.state
from pg_catalog.pg_locks l
join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and l.classid = %(lock_class)s::pg_catalog.oid
  and l.objid = (%(key)s::bigint & 4294967295)::pg_catalog.oid
  and l.objsubid = 2
  and a.usename = session_user
  and a.application_name ~ ('^ixp:' || %(change_id)s::text || ':[0-9]{1,18}$')
  and pg_catalog.split_part(a.application_name, ':', 3)::bigint < %(epoch)s
