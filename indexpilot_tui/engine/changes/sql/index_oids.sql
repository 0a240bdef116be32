-- Every index of a table by OID: what was there before, so that what came later can be told from it.
select i.indexrelid::int8 as oid
from pg_catalog.pg_index i
where i.indrelid = %(table_oid)s::int8::pg_catalog.oid
order by 1
