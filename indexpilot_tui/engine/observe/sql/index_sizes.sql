-- Sizes of the indexes of tables whose oids lie in a range; null where somebody holds or waits for the relation exclusively.
-- The order of the columns is that of `health_reader.Size`.
with /* indexpilot */ locked as materialized (
  select distinct l.relation from pg_catalog.pg_locks l
  where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
)
select i.indexrelid::int8,
       case when not exists (select from locked k where k.relation in (i.indexrelid, i.indrelid))
            then pg_catalog.pg_relation_size(i.indexrelid::pg_catalog.regclass) end,
       c.reltuples::float8
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
where i.indrelid between %(first)s::int8::pg_catalog.oid and %(last)s::int8::pg_catalog.oid
  and c.relkind = 'i' and c.relpersistence <> 't' and i.indrelid >= 16384
