-- What a build on this table has to read: rows and sizes of the table, or of all partitions with storage. One row; "rows" as the planner counts them, where there was never an ANALYZE the most that fit.
with leaves as materialized (
    select c.oid, c.relpages, c.reltuples, pg_catalog.pg_relation_size(c.oid) as heap, pg_catalog.pg_table_size(c.oid) as whole
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'm')
      and (c.oid = %(table_oid)s::pg_catalog.oid
           or c.oid in (select t.relid from pg_catalog.pg_partition_tree(%(table_oid)s::pg_catalog.oid::pg_catalog.regclass) t where t.isleaf))
)
select pg_catalog.count(*)::int as tables,
       coalesce(pg_catalog.sum(l.heap), 0)::int8 as heap_bytes,
       coalesce(pg_catalog.sum(l.whole), 0)::int8 as table_bytes,
       coalesce(pg_catalog.sum(case when l.relpages > 0 and l.reltuples >= 0
                                    then l.reltuples * (l.heap / 8192.0 / l.relpages) else l.heap / 28.0 end), 0)::float8 as rows,
       coalesce(pg_catalog.bool_or(l.relpages = 0 and l.heap > 0), false) as guessed,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))::int8 as maintenance_work_mem,
       (select s.spcname::text from pg_catalog.pg_database d join pg_catalog.pg_tablespace s on s.oid = d.dattablespace
         where d.datname = pg_catalog.current_database()) as default_tablespace,
       exists (select from pg_catalog.pg_proc p
               join pg_catalog.pg_namespace n on n.oid = p.pronamespace
               join pg_catalog.pg_roles r on r.oid = p.proowner and r.rolname = 'indexpilot_statistics'
               where n.nspname = 'indexpilot' and p.proname = 'column_statistics'
                 and pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) as reader
from leaves l
