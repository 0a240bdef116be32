-- Statements of this database with ON CONFLICT: unique indexes are named there by their columns, whatever they are called.
select /* indexpilot */ pg_catalog.left(s.query, 4000) as query
from {schema}.pg_stat_statements(true) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.query ~* '\mon\s+conflict\M'
limit 1000
