-- Columns of the table with their layout, and their mean widths where this login may see them.
select a.attname::text as name, a.attlen::int as length, a.attalign::text as align,
       (select pg_catalog.max(p.avg_width) from pg_catalog.pg_stats p
         where p.schemaname = n.nspname and p.tablename = c.relname and p.attname = a.attname) as avg_width
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attrelid = %(table_oid)s::pg_catalog.oid and a.attnum > 0 and not a.attisdropped
order by a.attnum
