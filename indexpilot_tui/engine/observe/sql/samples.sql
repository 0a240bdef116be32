-- Who works on what at this moment in this database, where pg_stat_statements is missing: one sample. Parallel workers are left out, for
-- their time is not counted twice elsewhere either.
select /* indexpilot */ s.usesysid::int8 as userid, s.usename::text as user_name, pg_catalog.left(s.query, 2000) as query,
       pg_catalog.count(*)::int as sessions
from pg_catalog.pg_stat_activity s
where s.datname = pg_catalog.current_database() and s.state = 'active' and s.backend_type = 'client backend'
  and s.pid <> pg_catalog.pg_backend_pid()
  and s.application_name not like 'indexpilot%' and s.application_name not like 'ixp%'
group by s.usesysid, s.usename, pg_catalog.left(s.query, 2000)
order by pg_catalog.count(*) desc
limit 200
