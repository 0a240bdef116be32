-- Memberships of this role, and how many user tables it may not SELECT: pg_stats shows only columns that it may.
/* indexpilot */
select current_user::text as role_name,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') as reads_all_stats,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') as reads_all_settings,
       (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) as is_superuser,
       pg_catalog.count(*) as tables,
       pg_catalog.count(*) filter (where not pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
                                      or not pg_catalog.has_schema_privilege(n.oid, 'USAGE')) as unreadable,
       (pg_catalog.array_agg(n.nspname || '.' || c.relname order by c.reltuples desc)
         filter (where not pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
                    or not pg_catalog.has_schema_privilege(n.oid, 'USAGE')))[1:5] as examples
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
