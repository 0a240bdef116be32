-- Relations of one name in a list of schemas, in the list's order; without a list, in all schemas of users.
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as relkind,
       c.relpersistence::text as persistence, c.relispartition as is_partition,
       pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
       n.nspname in ('pg_catalog', 'information_schema', 'pg_toast') as is_system
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relname = %(name)s
  and case when %(schemas)s::text[] is null
           then n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_%%'
           else n.nspname = any (%(schemas)s::text[]) end
order by pg_catalog.array_position(%(schemas)s::text[], n.nspname::text), n.nspname
