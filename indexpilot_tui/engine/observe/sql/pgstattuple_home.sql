-- Where pgstattuple is, and whether this role may use it. One row, or none.
select /* indexpilot */ n.nspname::text as schema, pg_catalog.has_schema_privilege(n.oid, 'USAGE') as visible,
       (select pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE'))
        from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'pgstatindex') as allowed
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pgstattuple'
