-- Whether this login may restore: the functions that do are granted to nobody, so their owner, a member of it, or a superuser.
SELECT coalesce(pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')), false) AS may_restore
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'indexpilot' AND p.proname IN ('_restore_begin', '_restore_rows', '_restore_end')
