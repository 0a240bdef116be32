-- A partitioned table with everything below it, parents before their parts: what kind of relation each is, whose it is, and the columns of its own partition key (0: an expression).
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as relkind,
       c.relpersistence::text as persistence, pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
       t.parentrelid::pg_catalog.oid::int8 as parent, t.level, t.isleaf as is_leaf,
       coalesce((select pg_catalog.array_agg(coalesce(a.attname::text, '') order by k.n)
                 from pg_catalog.pg_partitioned_table p,
                      pg_catalog.unnest(p.partattrs::int2[]) with ordinality k (attnum, n)
                      left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum and k.attnum > 0
                 where p.partrelid = c.oid), '{}')::text[] as part_key
from pg_catalog.pg_partition_tree(%(table_oid)s::int8::pg_catalog.oid::pg_catalog.regclass) t
join pg_catalog.pg_class c on c.oid = t.relid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
order by t.level, n.nspname, c.relname
