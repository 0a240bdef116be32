-- What the server does now. One row. Counts are of the whole server, the snapshot and the prepared transactions of this
-- database: those are what a CREATE INDEX CONCURRENTLY here waits for.
-- "hidden" counts client sessions whose state this role may not see; then nothing below it is a measurement.
-- Left out: this session; from "active" the consoles' own short reads; from "oldest" our builds, which the build pane shows.
/* indexpilot */
with a as materialized (
  select s.pid, s.datid, s.backend_type, s.state, s.xact_start, s.backend_xmin, s.wait_event_type,
         coalesce(s.application_name, '') as application, s.query,
         s.query = '<insufficient privilege>' and s.usesysid is not null as hidden
  from pg_catalog.pg_stat_activity s
  where s.pid <> pg_catalog.pg_backend_pid()
), oldest as (
  select a.pid, a.query, extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age
  from a
  where a.xact_start is not null and a.backend_type in ('client backend', 'background worker')
    and not (a.application like 'ixp:%' and a.pid in (select p.pid from pg_catalog.pg_stat_progress_create_index p))
  order by a.xact_start, a.pid
  limit 1
)
select pg_catalog.clock_timestamp() as at,
       pg_catalog.pg_postmaster_start_time() as started,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       (select pg_catalog.count(*) from a where a.hidden)::int as hidden,
       (select pg_catalog.count(*) from a where a.backend_type = 'client backend' and a.state = 'active'
                                           and a.application <> 'indexpilot')::int as active_backends,
       (select pg_catalog.count(*) from a where a.wait_event_type = 'Lock')::int as lock_waiters,
       (select o.age from oldest o) as oldest_xact_s,
       (select o.pid from oldest o) as oldest_xact_pid,
       (select pg_catalog.left(o.query, 1000) from oldest o) as oldest_xact_query,
       (select extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(a.xact_start))::float8 from a
         where a.backend_xmin is not null and a.backend_type in ('client backend', 'background worker')
           and a.datid = d.oid
           and not (a.application like 'ixp:%'
                    and a.pid in (select p.pid from pg_catalog.pg_stat_progress_create_index p))) as oldest_snapshot_s,
       (select pg_catalog.count(*) from pg_catalog.pg_prepared_xacts x
         where x.database = d.datname)::int as prepared_xacts,
       (select pg_catalog.sum(b.numbackends) from pg_catalog.pg_stat_database b)::int as connections,
       pg_catalog.current_setting('max_connections')::int as max_connections,
       (pg_catalog.pg_stat_get_db_xact_commit(d.oid) + pg_catalog.pg_stat_get_db_xact_rollback(d.oid)) as xacts
from pg_catalog.pg_database d
where d.datname = pg_catalog.current_database()
