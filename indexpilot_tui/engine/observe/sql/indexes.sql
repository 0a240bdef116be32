-- The indexes of the user tables whose oids lie in a range, with what it takes to compare them with others.
-- No lock is waited for: the definition and the size need AccessShareLock on table and index, so both are left out (null)
-- where somebody holds or waits for AccessExclusiveLock; states and scans come from the catalog and the statistics.
-- "busy": a session other than VACUUM or ANALYZE holds ShareUpdateExclusiveLock on the table, as CREATE, REINDEX and DROP
-- INDEX CONCURRENTLY do all the time, and so an invalid index there may be work in progress.
with /* indexpilot */ locks as materialized (
  select l.relation, l.mode, l.pid
  from pg_catalog.pg_locks l
  where l.locktype = 'relation' and l.mode in ('AccessExclusiveLock', 'ShareUpdateExclusiveLock')
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
), locked as materialized (
  select distinct k.relation from locks k where k.mode = 'AccessExclusiveLock'
), busy as materialized (
  select distinct k.relation from locks k
  where k.mode = 'ShareUpdateExclusiveLock'
    and not exists (select from pg_catalog.pg_stat_progress_vacuum v where v.pid = k.pid)
    and not exists (select from pg_catalog.pg_stat_progress_analyze v where v.pid = k.pid)
), owners as materialized (  -- once for all: pg_constraint has no index by which to ask for one
  select o.conindid,
         pg_catalog.min(o.conname::text) filter (where o.contype in ('p', 'u', 'x')) as constraint_name,
         pg_catalog.bool_or(o.condeferrable) filter (where o.contype in ('p', 'u', 'x')) as deferrable,
         pg_catalog.bool_or(o.contype = 'f') as referenced_by_fk
  from pg_catalog.pg_constraint o
  where o.conindid <> 0
    and case when o.contype = 'f' then o.confrelid else o.conrelid end
        between %(first)s::int8::pg_catalog.oid and %(last)s::int8::pg_catalog.oid
  group by o.conindid
), ix as materialized (
  select i.*, c.relname as index_name, c.relkind, c.relam, c.reloptions, c.reltablespace, c.reltuples,
         t.relname as table_name, n.nspname as schema_name,
         exists (select from locked k where k.relation in (i.indexrelid, i.indrelid)) as is_locked
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_class t on t.oid = i.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where i.indrelid between %(first)s::int8::pg_catalog.oid and %(last)s::int8::pg_catalog.oid
    and c.relkind in ('i', 'I') and t.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
)
select i.indexrelid::int8 as oid, i.indrelid::int8 as table_oid,
       i.schema_name, i.index_name, i.table_name, am.amname as method,
       i.relkind = 'I' as partitioned,
       h.inhparent is not null as attached, coalesce(h.inhparent, 0)::int8 as parent_oid,
       i.is_locked as locked,
       case when not i.is_locked and %(definitions)s then pg_catalog.pg_get_indexdef(i.indexrelid) end as definition,
       case when not i.is_locked then pg_catalog.pg_relation_size(i.indexrelid::pg_catalog.regclass) end as size_bytes,
       pg_catalog.pg_stat_get_numscans(i.indexrelid) as scans,
       null::timestamptz as last_scan,
       i.indisvalid as valid, i.indisready as ready, i.indislive as live, i.indisunique as is_unique,
       i.indisprimary as is_primary, i.indisexclusion as is_exclusion, i.indisclustered as is_clustered,
       i.indisreplident as is_replica_identity, i.indimmediate as is_immediate,
       false as nulls_not_distinct,
       i.indnkeyatts::int as key_count, i.indkey::text as keys, i.indclass::text as opclasses,
       i.indcollation::text as collations, i.indoption::text as options,
       case when not i.is_locked and i.indexprs is not null then array(
         select pg_catalog.pg_get_indexdef(i.indexrelid, k, false)
         from pg_catalog.generate_series(1, i.indnkeyatts::int) k order by k) end as elements,
       case when not i.is_locked then pg_catalog.pg_get_expr(i.indpred, i.indrelid) end as predicate,
       i.indexprs is not null as has_expressions, i.indpred is not null as has_predicate,
       coalesce(pg_catalog.array_to_string(i.reloptions, ', '), '') as reloptions,
       i.reltablespace::int8 as tablespace,
       i.reltuples::float8 as table_rows,
       coalesce(w.constraint_name, '') as constraint_name, coalesce(w.deferrable, false) as constraint_deferrable,
       coalesce(w.referenced_by_fk, false) as referenced_by_fk,
       exists (select from pg_catalog.pg_depend e
               where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and e.objid = i.indrelid
                 and e.deptype = 'e') as of_extension,
       exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.indexrelid) as in_progress,
       exists (select from busy b where b.relation = i.indrelid) as busy
from ix i
join pg_catalog.pg_am am on am.oid = i.relam
left join pg_catalog.pg_inherits h on h.inhrelid = i.indexrelid
left join owners w on w.conindid = i.indexrelid
