-- Schemas on a path that have a function of this name, in the path's order.
select n.nspname::text as schema
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = %(name)s and n.nspname = any (%(schemas)s::text[])
order by pg_catalog.array_position(%(schemas)s::text[], n.nspname::text)
limit 1
