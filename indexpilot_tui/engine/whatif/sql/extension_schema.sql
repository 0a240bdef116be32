-- Where an extension lives.
/* indexpilot */
select n.nspname::text as schema
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
 where e.extname = %(extension)s
