-- Columns in which one value holds most rows and others are rare, of tables of some size, and no index that leads with the
-- column (for all rows) or has it in its predicate. Only columns that this role may read are in pg_stats.
/* indexpilot */
select n.nspname as schema_name, c.relname as table_name, a.attname as column_name,
       c.oid::int8 as table_oid, c.relkind = 'p' as partitioned, c.reltuples::float8 as table_rows,
       pg_catalog.array_to_json(s.most_common_vals)::text as vals, s.most_common_freqs::float8[] as freqs
from pg_catalog.pg_stats s
join pg_catalog.pg_namespace n on n.nspname = s.schemaname
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = s.tablename
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = s.attname
where not s.inherited
  and s.schemaname not in ('pg_catalog', 'information_schema', 'indexpilot')
  and c.relkind in ('r', 'm') and c.reltuples >= %(rows)s::float8
  and s.most_common_freqs[1] >= %(share)s::float8 and s.most_common_freqs[1] < 1
  and pg_catalog.array_length(s.most_common_freqs, 1) > 1
  and not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = c.oid and i.indisvalid
      and ((i.indkey[0] = a.attnum and i.indpred is null)
           or (i.indpred is not null
               and exists (select from pg_catalog.pg_depend d
                           where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = i.indexrelid
                             and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                             and d.refobjid = c.oid and d.refobjsubid = a.attnum))))
order by c.reltuples desc, a.attnum
limit 50
