-- What our backend does now: one row, empty fields when it is gone or has no progress to show.
select b.pid, b.state, b.wait_event_type, b.wait_event, p.phase, p.index_relid::int8 as index_oid,
       p.lockers_total::int8, p.lockers_done::int8, p.current_locker_pid, p.blocks_total::int8, p.blocks_done::int8,
       p.tuples_total::int8, p.tuples_done::int8,
       pg_catalog.clock_timestamp() as now
from (select %(pid)s::int as pid, %(backend_start)s::timestamptz as backend_start) k
left join pg_catalog.pg_stat_activity b on b.pid = k.pid and b.backend_start = k.backend_start
left join pg_catalog.pg_stat_progress_create_index p on p.pid = b.pid
