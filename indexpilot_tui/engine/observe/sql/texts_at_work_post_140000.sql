-- Texts of statements that sessions of this database are at, or did last, where the server cannot give those of pg_stat_statements. Only
-- from 14 on: before, no queryid is told.
select /* indexpilot */ distinct on (s.query_id, s.usesysid) s.query_id as queryid, s.usesysid::int8 as userid,
       s.usename::text as user_name, pg_catalog.left(s.query, 2000) as query
from pg_catalog.pg_stat_activity s
where s.datname = pg_catalog.current_database() and s.query_id = any(%(queryids)s) and s.usesysid is not null
order by s.query_id, s.usesysid
