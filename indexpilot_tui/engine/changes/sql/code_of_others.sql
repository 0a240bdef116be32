-- What a statement would run or unfold while it is planned, and that is not PostgreSQL's own: functions, operators and types of its names that belong to nobody with all rights, views, and tables with row-level security. No row: planning it runs no code of others.
select 'function ' || p.proname::text as what
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_roles r on r.oid = p.proowner
where p.proname = any (%(functions)s::text[]) and n.nspname = any (%(schemas)s::text[]) and n.nspname <> 'pg_catalog' and not r.rolsuper
union all
select 'operator ' || o.oprname::text
from pg_catalog.pg_operator o
join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
join pg_catalog.pg_roles r on r.oid = o.oprowner
where o.oprname = any (%(operators)s::text[]) and n.nspname = any (%(schemas)s::text[]) and n.nspname <> 'pg_catalog' and not r.rolsuper
union all
select 'type ' || t.typname::text
from pg_catalog.pg_type t
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
join pg_catalog.pg_roles r on r.oid = t.typowner
where t.typname = any (%(types)s::text[]) and n.nspname = any (%(schemas)s::text[]) and n.nspname <> 'pg_catalog' and not r.rolsuper
union all
select case when c.relkind in ('r', 'p', 'm') then 'row-level security of ' else 'relation ' end || c.relname::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relname = any (%(relations)s::text[]) and n.nspname = any (%(schemas)s::text[])
  and (c.relkind not in ('r', 'p', 'm', 'i', 'I', 'S') or c.relrowsecurity)
limit 1
