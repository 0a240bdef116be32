-- May the login of this session act as the owner of the table (16+: membership with the SET option), and may the owner create in the schema.
select pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
       session_user::text as login,
       n.nspname::text as schema,
       pg_catalog.pg_has_role(session_user, c.relowner, 'SET') as may_act,
       pg_catalog.has_schema_privilege(c.relowner, c.relnamespace, 'CREATE') as may_create
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = %(table_oid)s::pg_catalog.oid
