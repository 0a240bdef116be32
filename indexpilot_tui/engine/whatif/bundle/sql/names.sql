-- Every relation and index by name, the system's own too: what a name in a statement means is looked up in this list.
/* indexpilot */
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as kind
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f', 'i', 'I') and n.nspname !~ '^pg_(toast|temp)'
 order by c.oid
