-- Definitions of the indexes of a table.
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, i.indisvalid as valid, pg_catalog.pg_get_indexdef(c.oid) as definition
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where i.indrelid = %(table_oid)s::pg_catalog.oid
order by c.relname
