-- Statements of this database that write rows and name a table, the busiest first, with their calls since the reset.
select /* indexpilot */ s.queryid, pg_catalog.sum(s.calls)::float8 as calls, pg_catalog.max(s.query) as query
from {schema}.pg_stat_statements(true) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid is not null
  and s.query ~* '\m(insert|update|delete|merge)\M'
  and pg_catalog.strpos(pg_catalog.lower(s.query), pg_catalog.lower(%(table)s)) > 0
group by s.queryid
order by pg_catalog.sum(s.calls) desc
limit 1000
