-- What the server does now, and its counters since they were reset: one row, asked at every refresh, so of functions and not of
-- views (measured with 30 sessions: 0.3 ms against 0.5 ms).
-- Counts are of the whole server; the snapshot and the prepared transactions are of this database: those are what a
-- CREATE INDEX CONCURRENTLY here waits for. Counters of transactions, blocks and temporary files are this database's, those of WAL and
-- checkpoints the server's.
-- "hidden" counts client sessions whose state this role may not see; then nothing that rests on their state is a measurement.
-- Left out: this session; from "active" the consoles' own short reads; from "oldest" our builds, which the build pane shows.
-- "waits": sessions at work by statement and by what they wait for; the query id is known from 14 on.
-- "ms": how long the server has worked on this question so far; "began": when it turned to it (in a pipeline: after the one before).
with /* indexpilot */ a as materialized (
  select s.pid, s.datid, s.backend_type, s.state, s.xact_start, s.backend_xmin, s.wait_event_type, s.wait_event,
         null::int8 as query_id, coalesce(s.application_name, '') as application, s.query,
         s.query = '<insufficient privilege>' and s.usesysid is not null as hidden
  from pg_catalog.pg_stat_get_activity(null) s
  where s.pid <> pg_catalog.pg_backend_pid()
), counts as (
  select pg_catalog.count(*) filter (where a.hidden)::int as hidden,
         pg_catalog.count(*) filter (where a.backend_type = 'client backend' and a.state = 'active'
                                       and a.application <> 'indexpilot')::int as active_backends,
         pg_catalog.count(*) filter (where a.backend_type in ('client backend', 'parallel worker') and a.state = 'active'
                                       and a.wait_event_type is null and a.application <> 'indexpilot')::int as on_cpu,
         pg_catalog.count(*) filter (where a.state like 'idle in transaction%%')::int as idle_in_transaction,
         pg_catalog.count(*) filter (where a.wait_event_type = 'Lock')::int as lock_waiters,
         pg_catalog.count(*) filter (where a.backend_type = 'client backend' or a.hidden)::int as client_backends
  from a
), waits as (
  select pg_catalog.json_agg(pg_catalog.json_build_array(w.query_id::text, w.kind, w.event, w.sessions)) as waits
  from (
    select a.query_id, coalesce(a.wait_event_type, '') as kind, coalesce(a.wait_event, '') as event, pg_catalog.count(*) as sessions
    from a
    where a.backend_type in ('client backend', 'parallel worker') and a.state = 'active' and a.application <> 'indexpilot'
      and not a.hidden
    group by a.query_id, a.wait_event_type, a.wait_event
    order by pg_catalog.count(*) desc
    limit 200
  ) w
), building as materialized (
  select p.pid from pg_catalog.pg_stat_get_progress_info('CREATE INDEX') p
), oldest as (
  select a.pid, a.query, extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age
  from a
  where a.xact_start is not null and a.backend_type in ('client backend', 'background worker')
    and not (a.application like 'ixp:%%' and a.pid in (select b.pid from building b))
  order by a.xact_start, a.pid
  limit 1
), prepared as (
  select pg_catalog.count(*)::int as number,
         extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(x.prepared))::float8 as age
  from pg_catalog.pg_prepared_xact() x
  where x.dbid = %(database)s::pg_catalog.oid
)
select pg_catalog.pg_postmaster_start_time() as started,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       c.*, w.waits,
       (select o.age from oldest o) as oldest_xact_s,
       (select o.pid from oldest o) as oldest_xact_pid,
       (select pg_catalog.left(o.query, 1000) from oldest o) as oldest_xact_query,
       (select extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(a.xact_start))::float8 from a
         where a.backend_xmin is not null and a.backend_type in ('client backend', 'background worker')
           and a.datid = %(database)s::pg_catalog.oid
           and not (a.application like 'ixp:%%' and a.pid in (select b.pid from building b))) as oldest_snapshot_s,
       p.number as prepared_xacts, p.age as oldest_prepared_s,
       (select pg_catalog.count(*)::int from building b) as builds,
       pg_catalog.current_setting('max_connections')::int as max_connections,
       pg_catalog.current_setting('superuser_reserved_connections')::int
         + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int as reserved_connections,
       pg_catalog.pg_stat_get_db_xact_commit(%(database)s::pg_catalog.oid) as commits,
       pg_catalog.pg_stat_get_db_xact_rollback(%(database)s::pg_catalog.oid) as rollbacks,
       pg_catalog.pg_stat_get_db_temp_bytes(%(database)s::pg_catalog.oid) as temp_bytes,
       pg_catalog.pg_stat_get_db_temp_files(%(database)s::pg_catalog.oid) as temp_files,
       pg_catalog.pg_stat_get_db_deadlocks(%(database)s::pg_catalog.oid) as deadlocks,
       pg_catalog.pg_stat_get_db_blk_write_time(%(database)s::pg_catalog.oid) as write_ms,
       pg_catalog.pg_stat_get_db_blk_read_time(%(database)s::pg_catalog.oid) as read_ms,
       pg_catalog.pg_wal_lsn_diff(case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                                       else pg_catalog.pg_current_wal_insert_lsn() end, '0/0')::float8 as wal_position,
       pg_catalog.pg_stat_get_bgwriter_timed_checkpoints() as checkpoints_timed,
       pg_catalog.pg_stat_get_bgwriter_requested_checkpoints() as checkpoints_requested,
       pg_catalog.statement_timestamp() as began,
       pg_catalog.clock_timestamp() as at,
       extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())::float8 * 1000 as ms,
       extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp())::float8 * 1000 as round_ms
from counts c, waits w, prepared p
