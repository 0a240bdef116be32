-- How many indexes a table has (of partitions the one that has most), it and its partitions by oid, and the columns whose change keeps an update from being HOT (16+: those of summarizing indexes do not).
with parts as materialized (
    select t.relid::pg_catalog.oid as oid from pg_catalog.pg_partition_tree(%(table_oid)s::pg_catalog.oid::pg_catalog.regclass) t
    union select %(table_oid)s::pg_catalog.oid
), indexes as materialized (
    select i.indexrelid, i.indrelid, i.indkey, am.amname
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am am on am.oid = c.relam
    where i.indrelid in (select p.oid from parts p) and i.indislive
)
select coalesce((select pg_catalog.max(n.number) from (
           select pg_catalog.count(*) as number from indexes x group by x.indrelid) n), 0)::int as indexes,
       (select coalesce(pg_catalog.array_agg(p.oid::int8), '{}') from parts p) as oids,
       coalesce((select pg_catalog.array_agg(distinct a.attname::text)
                 from indexes x
                 join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum > 0 and not a.attisdropped
                 where x.amname <> 'brin' and (a.attnum = any (x.indkey::int2[])
                        or exists (select from pg_catalog.pg_depend d
                                   where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = x.indexrelid
                                     and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                     and d.refobjid = x.indrelid and d.refobjsubid = a.attnum))), '{}') as columns
