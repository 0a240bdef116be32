-- Sessions that are in a transaction, hold a snapshot, wait for a lock or are waited for; with whom each waits for.
-- pg_blocking_pids takes the locks of the lock table for a moment, so it is asked of those alone that wait. 0 stands in its answer for a
-- prepared transaction. "hidden": its state may not be seen by this role.
with /* indexpilot */ a as materialized (
  select s.pid, s.datname, s.usename, s.application_name, pg_catalog.host(s.client_addr) as client, s.backend_type, s.state,
         s.wait_event_type, s.wait_event, s.query, s.xact_start, s.query_start, s.state_change, s.backend_xmin,
         s.query = '<insufficient privilege>' and s.usesysid is not null as hidden,
         case when s.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(s.pid) end as blocked_by
  from pg_catalog.pg_stat_activity s
  where s.pid <> pg_catalog.pg_backend_pid()
)
select a.pid, a.datname::text as database, a.usename::text as user_name, a.application_name as application, a.client,
       a.backend_type as kind, a.state, a.wait_event_type as wait_kind, a.wait_event, pg_catalog.left(a.query, 4000) as query,
       extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as xact_s,
       extract(epoch from pg_catalog.clock_timestamp() - a.query_start)::float8 as query_s,
       extract(epoch from pg_catalog.clock_timestamp() - a.state_change)::float8 as state_s,
       pg_catalog.age(a.backend_xmin)::int8 as xmin_age,
       a.hidden, a.blocked_by
from a
where a.hidden or a.xact_start is not null or a.backend_xmin is not null or a.blocked_by is not null
   or a.pid in (select pg_catalog.unnest(b.blocked_by) from a b)
order by a.blocked_by is null, a.xact_start, a.pid
limit 1000
