-- Whether this session sees state, transaction start and snapshot of other people's: the views ask for current_user.
select pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
       or (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) as sees
