-- Whether this login sees state, transaction start and snapshot of other people's sessions.
select pg_catalog.pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')
       or (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = session_user) as sees
