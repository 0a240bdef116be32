-- Which relations do these names mean? One row for every relation of that name; the caller picks by search_path.
/* indexpilot */
select w.ord::int4 as ord, c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as kind
  from rows from (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[]))
       with ordinality as w(schema, name, ord)
  join pg_catalog.pg_class c on c.relname = w.name::pg_catalog.name and c.relkind in ('r', 'p', 'v', 'm', 'f', 'i', 'I')
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where (w.schema = '' or n.nspname = w.schema) and n.nspname !~ '^pg_(toast|temp)'
 order by w.ord, c.oid
