-- The search path that this login starts with (ours is pg_catalog), and the login itself for "$user".
select s.reset_val as path, session_user::text as login
from pg_catalog.pg_settings s
where s.name = 'search_path'
