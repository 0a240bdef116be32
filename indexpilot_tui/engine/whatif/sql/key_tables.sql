-- Foreign keys of some tables, with the traffic on the tables that they refer to. Of partitions: only the key on top.
/* indexpilot */
select k.conrelid::int8 as table_oid, k.conname::text as name, k.conkey::int4[] as columns,
       n.nspname::text as parent_schema, p.relname::text as parent_name, k.confdeltype::text as on_delete,
       pg_catalog.pg_stat_get_tuples_deleted(k.confrelid)::int8 as parent_deleted,
       pg_catalog.pg_stat_get_tuples_updated(k.confrelid)::int8 as parent_updated
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class p on p.oid = k.confrelid
  join pg_catalog.pg_namespace n on n.oid = p.relnamespace
 where k.contype = 'f' and k.conparentid = 0 and k.conrelid = any(%(oids)s::pg_catalog.oid[])
 order by k.oid
