-- The definition of one index as the server writes it, unless somebody holds or waits for it or its table exclusively.
select /* indexpilot */ case when not exists (
         select from pg_catalog.pg_locks l
         where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.relation in (i.indexrelid, i.indrelid)
           and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
       then pg_catalog.pg_get_indexdef(i.indexrelid) end as definition
from pg_catalog.pg_index i
where i.indexrelid = %(oid)s::int8::pg_catalog.oid
