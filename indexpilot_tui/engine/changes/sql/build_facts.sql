-- What an index holds and what it was built from. Takes AccessShareLock on both.
select case when c.reltuples >= 0 then c.reltuples::float8 end as rows, i.indpred is not null as partial,
       pg_catalog.pg_relation_size(i.indrelid)::int8 as heap_bytes
from pg_catalog.pg_class c
join pg_catalog.pg_index i on i.indexrelid = c.oid
where c.oid = %(oid)s::int8::pg_catalog.oid
