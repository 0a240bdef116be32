-- What the server is doing now, without our own sessions. Zero is a count here, never a missing value.
with others as (
    select a.pid, a.state, a.xact_start, a.wait_event_type
    from pg_catalog.pg_stat_activity a
    where a.backend_type = 'client backend' and a.pid <> all (%(own)s::int[])
)
select (select pg_catalog.count(*) from others where state = 'active') as active_backends,
       coalesce((select pg_catalog.max(extract(epoch from pg_catalog.clock_timestamp() - xact_start)) from others), 0)::float8
           as oldest_xact_s,
       (select pid from others where xact_start is not null order by xact_start limit 1) as oldest_pid,
       (select pg_catalog.count(*) from others where wait_event_type = 'Lock') as lock_waiters
