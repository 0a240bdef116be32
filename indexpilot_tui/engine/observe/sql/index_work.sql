-- What is going on around indexes now: relations that somebody holds or waits for exclusively ("locked"), tables on which a session other
-- than VACUUM or ANALYZE holds the lock of a concurrent index operation ("busy"), indexes that are being built ("building").
with /* indexpilot */ locks as materialized (
  select l.relation, l.mode, l.pid
  from pg_catalog.pg_locks l
  where l.locktype = 'relation' and l.mode in ('AccessExclusiveLock', 'ShareUpdateExclusiveLock')
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
)
select distinct k.relation::int8 as oid, 'locked' as what from locks k where k.mode = 'AccessExclusiveLock'
union all
select distinct k.relation::int8, 'busy' from locks k
where k.mode = 'ShareUpdateExclusiveLock'
  and not exists (select from pg_catalog.pg_stat_progress_vacuum v where v.pid = k.pid)
  and not exists (select from pg_catalog.pg_stat_progress_analyze v where v.pid = k.pid)
union all
select distinct p.index_relid::int8, 'building' from pg_catalog.pg_stat_progress_create_index p
where p.index_relid <> 0
  and p.datid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
