-- Definition and size of an index by OID. Both take AccessShareLock (the definition on the table, measured), so this waits behind an ALTER TABLE that waits.
select pg_catalog.pg_get_indexdef(c.oid) as definition, pg_catalog.pg_relation_size(c.oid)::int8 as size_bytes
from pg_catalog.pg_class c
where c.oid = %(oid)s::int8::pg_catalog.oid
