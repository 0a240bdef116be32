-- What the server is doing now, without our own sessions, and counters to compare with a second reading. Zero is a count here, never a missing value. (17+: the checkpointer has a view of its own.)
with a as materialized (
    select s.pid, s.backend_type, s.state, s.xact_start, s.wait_event_type, s.wait_event
    from pg_catalog.pg_stat_activity s
    where s.pid <> all (%(own)s::int[])
), others as (
    select * from a where backend_type = 'client backend'
)
select (select pg_catalog.count(*) from others where state = 'active') as active_backends,
       coalesce((select pg_catalog.max(extract(epoch from pg_catalog.clock_timestamp() - xact_start)) from others), 0)::float8
           as oldest_xact_s,
       (select pid from others where xact_start is not null order by xact_start limit 1) as oldest_pid,
       (select pg_catalog.count(*) from others where wait_event_type = 'Lock') as lock_waiters,
       (select pg_catalog.count(*) from a where state = 'active' and wait_event is null) as on_cpu,
       (select pg_catalog.count(*) from a where state = 'active' and wait_event_type = 'LWLock') as lwlock_waits,
       (select pg_catalog.count(*) from a where state = 'active' and wait_event_type = 'IO') as io_waits,
       (select pg_catalog.sum(d.xact_commit + d.xact_rollback) from pg_catalog.pg_stat_database d)::float8 as transactions,
       (case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
             else pg_catalog.pg_current_wal_lsn() end - '0/0'::pg_catalog.pg_lsn)::float8 as wal_bytes,
       (select c.num_requested from pg_catalog.pg_stat_checkpointer c)::float8 as checkpoints
