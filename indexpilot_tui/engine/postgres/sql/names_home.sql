-- Where bare names of a statement stand: the first schema of a search path that has one of this name.
select distinct on (x.kind, x.name) x.kind, x.name, x.schema
from (
  select 'relation' as kind, c.relname::text as name, n.nspname::text as schema
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relname = any (%(relations)s::text[])
  union all
  select 'function', p.proname::text, n.nspname::text
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.proname = any (%(functions)s::text[])
  union all
  select 'operator', o.oprname::text, n.nspname::text
  from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
  where o.oprname = any (%(operators)s::text[])
  union all
  select 'type', t.typname::text, n.nspname::text
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.typname = any (%(types)s::text[])
) x
where x.schema = any (%(path)s::text[])
order by x.kind, x.name, pg_catalog.array_position(%(path)s::text[], x.schema)
