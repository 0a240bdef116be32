-- The columns of some indexes as they are stored, and whether a B-tree of them can put equal keys together (every operator class has
-- a btequalimage function, and no collation takes different strings for equal).
select /* indexpilot */ i.indexrelid::int8 as oid, a.attnum::int4 as number, i.indkey[a.attnum - 1]::int4 as column,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.atttypid::int8 as type_oid, a.attlen::int4 as length,
       a.attalign::text as align, a.atttypmod as typmod, a.attname::text as name,
       i.indnkeyatts::int4 as key_columns, c.reltuples::float8 as rows,
       coalesce(pg_catalog.array_to_string(c.reloptions, ','), '') as options,
       (select pg_catalog.bool_and(exists (
          select from pg_catalog.pg_opclass o
          join pg_catalog.pg_amproc p on p.amprocfamily = o.opcfamily and p.amprocnum = 4
                                     and p.amproclefttype = o.opcintype and p.amprocrighttype = o.opcintype
          where o.oid = k.class))
        from pg_catalog.unnest(i.indclass::pg_catalog.oid[]) as k(class))
       and not exists (select from pg_catalog.pg_collation co
                       where co.oid = any(i.indcollation::pg_catalog.oid[]) and not co.collisdeterministic) as equal_image
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_attribute a on a.attrelid = i.indexrelid and a.attnum > 0
where i.indexrelid = any(%(oids)s::int8[]::pg_catalog.oid[])
order by i.indexrelid, a.attnum
