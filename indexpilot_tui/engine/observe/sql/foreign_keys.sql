-- Foreign keys of the user schemas (of partitions: only the one on top), with the traffic on the table that each points to: all, or those
-- of which the oids are given.
with /* indexpilot */ locked as materialized (
  select distinct l.relation from pg_catalog.pg_locks l
  where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
)
select f.oid::int8 as oid, f.conname as name, f.conrelid::int8 as table_oid, n.nspname as schema_name,
       t.relname as table_name, t.relkind = 'p' as partitioned, t.reltuples::float8 as table_rows,
       case when t.relkind = 'r' and not exists (select from locked k where k.relation = t.oid)
            then pg_catalog.pg_relation_size(t.oid::pg_catalog.regclass) end as table_bytes,
       f.conkey::int4[] as columns,
       array(select a.attname::text from pg_catalog.unnest(f.conkey) with ordinality k(attnum, place)
             join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.attnum
             order by k.place) as column_names,
       pn.nspname as parent_schema, pt.relname as parent_table,
       f.confdeltype::text as on_delete,
       pg_catalog.pg_stat_get_tuples_deleted(f.confrelid) as parent_deleted,
       pg_catalog.pg_stat_get_tuples_updated(f.confrelid) as parent_updated
from pg_catalog.pg_constraint f
join pg_catalog.pg_class t on t.oid = f.conrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_class pt on pt.oid = f.confrelid
join pg_catalog.pg_namespace pn on pn.oid = pt.relnamespace
where f.contype = 'f' and f.conparentid = 0 and t.relpersistence <> 't'
  and (%(oids)s::int8[] is null or f.oid = any(%(oids)s::int8[]::pg_catalog.oid[]))
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
order by n.nspname, t.relname, f.conname
