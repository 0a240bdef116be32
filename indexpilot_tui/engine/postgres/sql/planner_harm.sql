-- Why planning as this login could do harm: what it may do beside reading, by itself or through a role that it is a member of. No row: it owns nothing anywhere and may only read.
with recursive reached(oid) as (
  select r.oid from pg_catalog.pg_roles r where r.rolname = session_user
  union
  select m.roleid from pg_catalog.pg_auth_members m join reached on reached.oid = m.member
)
select r.rolname::text as role,
       case when r.rolsuper then 'is a superuser'
            when r.rolcreaterole then 'may make roles'
            when r.rolcreatedb then 'may make databases'
            when r.rolreplication then 'may replicate'
            when r.rolbypassrls then 'bypasses row-level security'
            when r.rolname = any (array['indexpilot_owner', 'indexpilot_operator', 'indexpilot_approver', 'indexpilot_statistics']) then 'belongs to the control schema'
            when r.rolname::text like 'pg\_%' then 'may do more than read'
            else 'owns objects' end as why
from pg_catalog.pg_roles r
join reached on reached.oid = r.oid
where r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
   or r.rolname = any (array['indexpilot_owner', 'indexpilot_operator', 'indexpilot_approver', 'indexpilot_statistics'])
   or (r.rolname::text like 'pg\_%' and r.rolname <> all (array['pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_read_all_data']))
   or exists (select from pg_catalog.pg_shdepend d
              where d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid and d.deptype = 'o')
order by (r.rolname = session_user) desc, r.rolname
limit 1
