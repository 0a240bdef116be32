-- The foreign keys that point at some tables: what a DELETE there (or an UPDATE of the key) has to look up.
/* indexpilot */
select k.confrelid::int8 as parent, k.conrelid::int8 as child, n.nspname::text as schema, c.relname::text as name,
       k.conname::text as constraint_name, k.confdeltype::text as on_delete, k.confupdtype::text as on_update,
       array(select a.attname::text from pg_catalog.unnest(k.conkey) with ordinality as u(number, o)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.o) as columns,
       array(select a.attname::text from pg_catalog.unnest(k.confkey) with ordinality as u(number, o)
               join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by u.o) as parent_columns
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where k.contype = 'f' and k.confrelid = any(%(oids)s::pg_catalog.oid[]) and k.conparentid = 0
 order by k.confrelid, k.conrelid, k.conname
