-- One index as the catalog has it now, by OID or by schema and name. Nothing here takes a lock on the table or the index.
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, i.indrelid::int8 as table_oid,
       i.indisvalid as valid, i.indisready as ready, i.indislive as live, i.indisunique as is_unique,
       i.indexprs is not null as has_expressions, c.relkind::text as relkind,
       (select h.inhparent::int8 from pg_catalog.pg_inherits h where h.inhrelid = c.oid) as parent,
       exists (select from pg_catalog.pg_stat_progress_create_index p
               where p.index_relid = c.oid
                 and p.datid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())) as building
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_index i on i.indexrelid = c.oid
where case when %(oid)s::int8 is not null then c.oid = %(oid)s::int8::pg_catalog.oid
           else n.nspname = %(schema)s and c.relname = %(name)s end
