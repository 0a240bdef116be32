-- The columns of every foreign key of the user schemas (of partitions: only the one on top): enough to see which index serves it.
select /* indexpilot */ f.oid::int8 as oid, f.conrelid::int8 as table_oid, f.conkey::int4[] as columns
from pg_catalog.pg_constraint f
join pg_catalog.pg_class t on t.oid = f.conrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
where f.contype = 'f' and f.conparentid = 0 and t.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
order by f.oid
