-- The process of this session and when it started.
select a.pid, a.backend_start
from pg_catalog.pg_stat_activity a
where a.pid = pg_catalog.pg_backend_pid()
