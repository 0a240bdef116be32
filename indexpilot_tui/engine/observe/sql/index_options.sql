-- Parameters of operator classes, where an index has any (siglen of a signature and the like), by the place of the column.
select /* indexpilot */ a.attrelid::int8 as oid, a.attnum::int as place, pg_catalog.array_to_string(a.attoptions, ', ') as options
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
where a.attoptions is not null and c.relkind in ('i', 'I')
