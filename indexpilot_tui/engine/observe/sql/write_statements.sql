-- Statements of this database that write rows, by their text: who is who, for `write_times`. Utility statements and our own are left out.
select /* indexpilot */ distinct s.queryid
from {schema}.pg_stat_statements(true) s
where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and s.queryid is not null
  and s.query ~* '^\s*(/[*].*?[*]/\s*)*(insert|update|delete|merge)\M'
