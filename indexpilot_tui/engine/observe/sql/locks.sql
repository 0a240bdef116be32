-- Locks that somebody waits for: who wants them and who has them. A prepared transaction has no pid, but its id in "prepared".
-- Since when it is waited is not known before 14.
with /* indexpilot */ l as materialized (
  select k.* from pg_catalog.pg_locks k
), wanted as (
  select distinct l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid
  from l where not l.granted
)
select l.pid, l.granted, l.locktype as kind, l.mode,
       case when l.pid is null
            then (select t.transactionid::text from l t
                  where t.pid is null and t.granted and t.locktype = 'transactionid' and t.virtualtransaction = l.virtualtransaction
                  limit 1) end as prepared,
       case when l.relation is null then null
            when l.database in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
            then (select n.nspname || '.' || c.relname from pg_catalog.pg_class c
                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = l.relation)
       end as relation, l.relation::int8 as relation_oid,
       coalesce(l.transactionid::text, l.virtualxid, case when l.locktype = 'advisory' then l.classid::text || '/' || l.objid::text
                when l.locktype = 'object' then l.classid::pg_catalog.regclass::text || ' ' || l.objid::text end, '') as object,
       l.page, l.tuple, null::float8 as waits_s
from l
join wanted w on (w.locktype, w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid, w.classid, w.objid, w.objsubid)
  is not distinct from (l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)
order by l.granted, l.pid
limit 2000
