-- Schema of pg_stat_statements in this database, and whether it is loaded; no row when it is not installed.
select n.nspname::text as schema
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
