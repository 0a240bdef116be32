-- Bytes of the indexes of this database that are not the system's, and of those of one table with its partitions (0: of none).
select coalesce(pg_catalog.sum(x.size), 0)::float8 as total_bytes,
       coalesce(pg_catalog.sum(x.size) filter (where x.indrelid = %(table_oid)s::pg_catalog.oid or x.indrelid in (
           select t.relid from pg_catalog.pg_partition_tree(%(table_oid)s::pg_catalog.oid::pg_catalog.regclass) t)), 0)::float8 as table_bytes
from (
    select i.indrelid, pg_catalog.pg_relation_size(i.indexrelid) as size
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'i' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
) x
