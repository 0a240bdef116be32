-- Every index of a list of tables as the catalog has it now, with the index that it is a part of. Nothing here takes a lock.
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, i.indrelid::int8 as table_oid,
       i.indisvalid as valid, i.indisready as ready, i.indislive as live, i.indisunique as is_unique,
       i.indexprs is not null as has_expressions, c.relkind::text as relkind,
       (select h.inhparent::int8 from pg_catalog.pg_inherits h where h.inhrelid = c.oid) as parent,
       exists (select from pg_catalog.pg_stat_progress_create_index p
               where p.index_relid = c.oid
                 and p.datid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())) as building
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where i.indrelid::int8 = any (%(tables)s::int8[])
