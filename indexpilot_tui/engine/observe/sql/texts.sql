-- Texts and owners of statements that were not seen before. Once per queryid: this reads the whole text file of the server.
select /* indexpilot */ distinct on (s.queryid, s.userid) s.queryid, s.userid::int8 as userid,
       pg_catalog.pg_get_userbyid(s.userid)::text as user_name,
       pg_catalog.left(s.query, 100000) as query
from {schema}.pg_stat_statements(true) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid = any(%(queryids)s)
order by s.queryid, s.userid
