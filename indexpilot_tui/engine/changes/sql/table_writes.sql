-- Updates of a table (of all its partitions) since the counters began, and how many of them needed no entry in any index (HOT).
select coalesce(pg_catalog.sum(s.n_tup_upd), 0)::int8 as updates, coalesce(pg_catalog.sum(s.n_tup_hot_upd), 0)::int8 as hot,
       coalesce(pg_catalog.sum(s.n_tup_ins), 0)::int8 as inserts, coalesce(pg_catalog.sum(s.n_tup_del), 0)::int8 as deletes
from pg_catalog.pg_stat_all_tables s
where s.relid = %(table_oid)s::int8::pg_catalog.oid
   or s.relid in (select t.relid from pg_catalog.pg_partition_tree(%(table_oid)s::int8::pg_catalog.oid::pg_catalog.regclass) t)
