-- Distinct values of some columns of a table by its statistics (n_distinct: negative is a share of the rows), and its rows; for partitioned tables with their partitions.
select a.attname::text as name, s.null_frac::float8 as null_frac,
       case when s.n_distinct < 0 then -s.n_distinct * t.rows else s.n_distinct end::float8 as distinct_values, t.rows::float8 as rows
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (select coalesce(pg_catalog.sum(greatest(p.reltuples, 0)), 0) as rows from pg_catalog.pg_class p
                    where p.relkind = 'r' and (p.oid = c.oid or p.oid in (select x.relid from pg_catalog.pg_partition_tree(c.oid) x))) t
left join pg_catalog.pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
      and s.inherited = (c.relkind = 'p')
where a.attrelid = %(table_oid)s::pg_catalog.oid and a.attname = any(%(names)s::pg_catalog.name[])
