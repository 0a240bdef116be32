-- Cancel what this very backend runs; no row when it is gone.
select pg_catalog.pg_cancel_backend(a.pid) as sent
from pg_catalog.pg_stat_activity a
where a.pid = %(pid)s and a.backend_start = %(backend_start)s
