-- INVALID indexes that a REINDEX INDEX CONCURRENTLY of one index leaves behind when it is stopped: the unfinished new copy
-- (name_ccnew) or the replaced old one (name_ccold), each with a number behind it when the name was taken. Same table, same
-- schema, and a name that the server would have made: the base cut to 63 bytes at a whole character (makeObjectName).
with named as (
    select c.oid, c.relname::text as name, pg_catalog.substring(c.relname::text, '_(cc(?:new|old)[0-9]*)$') as label
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where i.indrelid = %(table_oid)s::int8::pg_catalog.oid
      and not i.indisvalid
      and n.nspname = %(schema)s
      and c.oid::int8 <> all (%(before)s::int8[])
)
select k.oid::int8 as oid
from named k
where k.label is not null
  and k.name = (
      select pg_catalog.left(%(index)s::text, n) || '_' || k.label
      from pg_catalog.generate_series(0, pg_catalog.char_length(%(index)s::text)) n
      where pg_catalog.octet_length(pg_catalog.left(%(index)s::text, n)) <= 62 - pg_catalog.octet_length(k.label)
      order by n desc
      limit 1
  )
order by 1
