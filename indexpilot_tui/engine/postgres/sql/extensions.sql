-- Which of some extensions this database has, in which version and schema, and whether this role may use what lies there.
select /* indexpilot */ e.extname::text as name, e.extversion as version, n.nspname::text as schema,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') as usable, current_user::text as role_name
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = any(%(names)s)
