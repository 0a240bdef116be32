-- Column names of a table.
select a.attname::text as name
from pg_catalog.pg_attribute a
where a.attrelid = %(table_oid)s::pg_catalog.oid and a.attnum > 0 and not a.attisdropped
