-- What other sessions of this database run now, or ran last, with their constants. Hidden texts say so themselves.
/* indexpilot */
select a.query
  from pg_catalog.pg_stat_activity a
 where a.datid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
   and a.pid <> pg_catalog.pg_backend_pid() and a.query <> '' and a.backend_type = 'client backend'
 order by a.query_start desc nulls last
 limit 500
