-- Sessions that run or want to run on a CPU, without our backend and its parallel workers.
select pg_catalog.count(*)::int as on_cpu
from pg_catalog.pg_stat_activity a
where a.state = 'active' and a.wait_event is null and a.pid <> pg_catalog.pg_backend_pid()
  and a.pid <> %(pid)s and a.leader_pid is distinct from %(pid)s
