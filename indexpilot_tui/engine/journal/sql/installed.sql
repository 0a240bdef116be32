-- Is the control schema here, and what may this login do with it? By OID: a name in a schema without USAGE raises.
SELECT n.oid IS NOT NULL AS present,
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false) AS usable,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner) = 'indexpilot_owner', false) AS ours,
       coalesce((SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') FROM pg_catalog.pg_class c
                 WHERE c.relnamespace = n.oid AND c.relname = 'schema_version'), false) AS readable,
       coalesce((SELECT pg_catalog.bool_or(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc p
                 WHERE p.pronamespace = n.oid AND p.proname = 'claim'), false) AS may_operate,
       coalesce((SELECT pg_catalog.bool_or(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc p
                 WHERE p.pronamespace = n.oid AND p.proname = 'approve'), false) AS may_approve
FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'indexpilot'
