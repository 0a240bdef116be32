-- INVALID indexes of the table that nobody is building now, except the one the plan itself drops.
select n.nspname || '.' || c.relname as name, i.indisunique, i.indisready
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where i.indrelid = %(table_oid)s::pg_catalog.oid
  and not i.indisvalid
  and i.indexrelid <> %(own_oid)s::pg_catalog.oid
  and not exists (
      select from pg_catalog.pg_stat_progress_create_index p
      where p.index_relid = i.indexrelid and p.datid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  )
order by 1
