-- The valid indexes of some tables.
/* indexpilot */
select i.indexrelid::int8 as oid, i.indrelid::int8 as table_oid, n.nspname::text as schema, c.relname::text as name,
       c.relkind::text as kind, am.amname::text as method, pg_catalog.pg_get_indexdef(i.indexrelid) as definition,
       c.relpages, c.reltuples::float8 as reltuples, i.indnkeyatts::int4 as key_columns, i.indisunique as unique,
       array(select k::int4 from pg_catalog.unnest(i.indkey::int2[]) with ordinality as u(k, o) order by o) as columns,
       (select h.inhparent::int8 from pg_catalog.pg_inherits h where h.inhrelid = i.indexrelid) as parent,
       array(select array[cn.nspname::text, co.collname::text,
                          coalesce(pg_catalog.to_jsonb(co) ->> 'colllocale', pg_catalog.to_jsonb(co) ->> 'colliculocale',
                                   co.collcollate::text, ''), co.collprovider::text, co.collisdeterministic::text]
               from pg_catalog.pg_collation co
               join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
              where co.oid = any(i.indcollation::pg_catalog.oid[]) and co.collprovider <> 'd'
              order by 1) as collations,
       k.conname::text as constraint_name, pg_catalog.pg_get_constraintdef(k.oid) as constraint_definition
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_am am on am.oid = c.relam
  left join pg_catalog.pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
   and k.conrelid = i.indrelid
 where i.indrelid = any(%(oids)s::pg_catalog.oid[]) and i.indisvalid
 order by i.indexrelid
