-- Whether a function may stand in an index: all of that name and schema are declared IMMUTABLE; of pg_catalog, where names are PostgreSQL's own, one of them.
select case when %(schema)s = 'pg_catalog' then pg_catalog.bool_or(p.provolatile = 'i')
            else pg_catalog.bool_and(p.provolatile = 'i') end as immutable
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = %(schema)s and p.proname = %(name)s
