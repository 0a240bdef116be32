-- Why code that runs as this login could do more than read, one reason a row; no row: it could not. Memberships count by whatever option, since code can SET ROLE where the login may, and grant what it may grant.
with recursive me as (
  select r.oid, r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls
    from pg_catalog.pg_roles r where r.rolname = session_user
), mine (oid) as (
  select me.oid from me
  union
  select m.roleid from pg_catalog.pg_auth_members m join mine on mine.oid = m.member
), roles as (
  select r.oid, r.rolname::text as name from mine join pg_catalog.pg_roles r on r.oid = mine.oid
)
select 'it is a superuser, or may make roles or databases, replicate or pass row-level security' as why from me
 where rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
union all
select 'it is a member of ' || r.name from roles r
 where r.name in ('indexpilot_operator', 'indexpilot_approver', 'indexpilot_owner', 'indexpilot_statistics', 'pg_write_all_data',
                  'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files', 'pg_signal_backend', 'pg_maintain',
                  'pg_checkpoint', 'pg_create_subscription', 'pg_database_owner')
union all
select 'it is or could become the owner of something: ' || r.name from roles r
 where exists (select from pg_catalog.pg_class c where c.relowner = r.oid)
    or exists (select from pg_catalog.pg_proc p where p.proowner = r.oid)
    or exists (select from pg_catalog.pg_namespace n where n.nspowner = r.oid)
    or exists (select from pg_catalog.pg_database d where d.datdba = r.oid)
limit 5
