-- The statements of this database with the largest share of the execution time since pg_stat_statements began to count.
-- "share" is of all statements of this database but the ones that carry our marker. Texts are raw: to plan, not to show.
select /* indexpilot */ t.queryid, t.query, t.calls, t.total_ms, t.share
from (
  select s.queryid, pg_catalog.min(s.query) as query, pg_catalog.sum(s.calls)::float8 as calls,
         pg_catalog.sum(s.total_exec_time)::float8 as total_ms,
         (pg_catalog.sum(s.total_exec_time) / nullif(pg_catalog.sum(pg_catalog.sum(s.total_exec_time)) over (), 0))::float8
           as share
  from {schema}.pg_stat_statements(true) s
  where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and s.queryid is not null
    and pg_catalog.strpos(pg_catalog.left(s.query, 200), '/* indexpilot */') = 0
    and s.query !~* '^\s*(/[*].*?[*]/\s*)*(set|show|reset|begin|commit|rollback|explain|discard|create|drop|alter|analyze|vacuum|copy|grant|deallocate)\M'
    and s.query !~* '\m(indexpilot|pg_catalog)[.]'
  group by s.queryid
) t
order by t.total_ms desc, t.queryid
limit %(limit)s
