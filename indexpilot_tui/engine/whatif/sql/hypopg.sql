-- Is HypoPG here, and may this role use it?
/* indexpilot */
select n.nspname::text as schema, e.extversion::text as version,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') as usable
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
 where e.extname = 'hypopg'
