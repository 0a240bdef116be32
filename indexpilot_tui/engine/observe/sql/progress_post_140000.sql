-- The same from 14 on, which tells how far a COPY is, too.
-- The relation has its name where it is one of this database. "waits_for": the session whose end a build waits for.
with /* indexpilot */ p as (
  select 'create index' as kind, c.pid, c.datid, c.relid, c.phase,
         case when c.blocks_total > 0 then c.blocks_done else c.tuples_done end as done,
         case when c.blocks_total > 0 then c.blocks_total else c.tuples_total end as total,
         nullif(c.current_locker_pid, 0)::int as waits_for
  from pg_catalog.pg_stat_progress_create_index c
  union all
  select 'vacuum', v.pid, v.datid, v.relid, v.phase,
         case when v.phase = 'vacuuming heap' then v.heap_blks_vacuumed else v.heap_blks_scanned end, v.heap_blks_total, null
  from pg_catalog.pg_stat_progress_vacuum v
  union all
  select 'analyze', a.pid, a.datid, a.relid, a.phase, a.sample_blks_scanned, a.sample_blks_total, null
  from pg_catalog.pg_stat_progress_analyze a
  union all
  select pg_catalog.lower(u.command), u.pid, u.datid, u.relid, u.phase, u.heap_blks_scanned, u.heap_blks_total, null
  from pg_catalog.pg_stat_progress_cluster u
  union all
  select 'base backup', b.pid, null, null, b.phase, b.backup_streamed, b.backup_total, null
  from pg_catalog.pg_stat_progress_basebackup b
  union all
  select 'copy', y.pid, y.datid, y.relid, pg_catalog.lower(y.command), y.bytes_processed, y.bytes_total, null
  from pg_catalog.pg_stat_progress_copy y
)
select p.kind, p.pid, d.datname::text as database,
       case when d.datname = pg_catalog.current_database()
            then (select n.nspname || '.' || c.relname from pg_catalog.pg_class c
                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = p.relid) end as relation,
       p.relid::int8 as relation_oid, p.phase, p.done, p.total, p.waits_for
from p
left join pg_catalog.pg_database d on d.oid = p.datid
order by p.kind, p.pid
limit 200
