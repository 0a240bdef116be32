-- What of the statistics this role can see: where pg_stat_statements lives, its version, two memberships, and what is timed. One row.
-- Every text of ours has the marker comment behind its first word: pg_stat_statements keeps it there (18 drops one before it), and so our
-- own reads can be told apart.
select /* indexpilot */ pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') as reads_all_stats,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') as reads_all_settings,
       current_user::text as role_name,
       pg_catalog.current_setting('track_io_timing') = 'on' as times_io,
       coalesce(pg_catalog.current_setting('pg_stat_statements.track_planning', true), 'off') = 'on' as times_planning,
       e.extversion as extension_version,
       n.nspname as extension_schema,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') as extension_visible
from (values (1)) as one(row)
left join pg_catalog.pg_extension e on e.extname = 'pg_stat_statements'
left join pg_catalog.pg_namespace n on n.oid = e.extnamespace
