-- Partitions with rows below a partitioned table, those of them that have a valid part of one index of it, and its size.
select (select pg_catalog.count(*) from pg_catalog.pg_partition_tree(%(table_oid)s::int8::pg_catalog.oid::pg_catalog.regclass) t
        where t.isleaf) as partitions,
       pg_catalog.count(distinct i.indrelid) as covered,
       coalesce(pg_catalog.sum(pg_catalog.pg_relation_size(i.indexrelid)), 0)::int8 as size_bytes
from pg_catalog.pg_partition_tree(%(oid)s::int8::pg_catalog.oid::pg_catalog.regclass) x
join pg_catalog.pg_index i on i.indexrelid = x.relid
where x.isleaf and i.indisvalid and i.indisready and i.indislive
