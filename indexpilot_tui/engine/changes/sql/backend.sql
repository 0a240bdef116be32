-- Is this very backend (process id and start) still there, and at work.
select a.pid, a.state, a.wait_event_type, a.wait_event, a.query
from pg_catalog.pg_stat_activity a
where a.pid = %(pid)s and a.backend_start = %(backend_start)s
