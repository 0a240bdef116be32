-- The table of an index, and what stands on that index.
/* indexpilot */
select i.indrelid::int8 as table_oid, i.indisvalid as valid, i.indisunique as is_unique, i.indisprimary as is_primary,
       i.indisreplident as replica_identity,
       (select k.conname::text from pg_catalog.pg_constraint k
         where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x') limit 1) as constraint_name,
       (select pg_catalog.count(*) from pg_catalog.pg_constraint k
         where k.conindid = i.indexrelid and k.contype = 'f')::int4 as foreign_keys,
       exists (select 1 from pg_catalog.pg_inherits h where h.inhrelid = i.indexrelid) as of_partition
  from pg_catalog.pg_index i
 where i.indexrelid = %(oid)s::pg_catalog.oid
