-- Schemas on a path that have an operator class of this name for an access method, in the path's order.
select n.nspname::text as schema
from pg_catalog.pg_opclass o
join pg_catalog.pg_am m on m.oid = o.opcmethod
join pg_catalog.pg_namespace n on n.oid = o.opcnamespace
where o.opcname = %(name)s and m.amname = %(method)s and n.nspname = any (%(schemas)s::text[])
order by pg_catalog.array_position(%(schemas)s::text[], n.nspname::text)
limit 1
