-- Index builds of this database that run now, and the session that each waits for.
select /* indexpilot */ p.pid,
       p.index_relid::int8 as index_oid,
       coalesce(i.nspname || '.' || i.relname, '') as index_name,
       coalesce(t.nspname || '.' || t.relname, '') as table_name,
       coalesce(p.phase, '') as phase,
       p.blocks_done, p.blocks_total, p.tuples_done, p.tuples_total,
       coalesce(p.lockers_done, 0) as lockers_done,
       coalesce(p.lockers_total, 0) as lockers_total,
       case when p.current_locker_pid > 0 then p.current_locker_pid
            when s.wait_event_type = 'Lock' then (pg_catalog.pg_blocking_pids(p.pid))[1]
       end::int as blocker_pid
from pg_catalog.pg_stat_progress_create_index p
join pg_catalog.pg_stat_activity s on s.pid = p.pid
left join lateral (select c.relname, n.nspname from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p.index_relid) i on true
left join lateral (select c.relname, n.nspname from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p.relid) t on true
where p.datname = pg_catalog.current_database()
