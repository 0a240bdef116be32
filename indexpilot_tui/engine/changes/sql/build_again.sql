-- The index that is to be rebuilt: its size now, and where it lies. One row, or none when it is gone.
select pg_catalog.pg_relation_size(c.oid)::int8 as index_bytes,
       (select s.spcname::text from pg_catalog.pg_tablespace s
         where s.oid = coalesce(nullif(c.reltablespace, 0::pg_catalog.oid),
                                (select d.dattablespace from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))) as tablespace
from pg_catalog.pg_class c
where c.oid = %(oid)s::pg_catalog.oid and c.relkind = 'i'
