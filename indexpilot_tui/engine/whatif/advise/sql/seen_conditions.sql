-- Conditions on columns that were tested together on rows that had been read (not in an index), in statements other than those given: on how
-- many rows, how many of these they threw away, and in how many executions of those that were looked at ("rate" is their share). From
-- pg_qualstats; no constants are read. What is tested together has the same figures in each row.
/* indexpilot */
select n.nspname::text as schema, c.relname::text as "table", q.queryid, coalesce(q.qualid, q.qualnodeid) as together,
       a.attname::text as "column", o.oprname::text as operator, pg_catalog.sum(q.execution_count)::float8 as tested,
       pg_catalog.sum(q.nbfiltered)::float8 as filtered, pg_catalog.sum(q.occurences)::float8 as times,
       case when pg_catalog.current_setting('pg_qualstats.sample_rate')::float8 > 0
            then pg_catalog.current_setting('pg_qualstats.sample_rate')::float8
            else 1.0 / pg_catalog.current_setting('max_connections')::float8 end as rate
  from {schema}.pg_qualstats() q
  join pg_catalog.pg_class c on c.oid = coalesce(q.lrelid, q.rrelid) and c.relkind in ('r', 'm') and not c.relispartition
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   and n.nspname not in ('pg_catalog', 'information_schema', 'indexpilot')
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = coalesce(q.lattnum, q.rattnum)
  join pg_catalog.pg_operator o on o.oid = q.opno
 where q.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
   and q.eval_type = 'f' and (q.lrelid is null or q.rrelid is null)
   and not coalesce(q.queryid = any(%(queryids)s::int8[]), false)
 group by 1, 2, 3, 4, 5, 6
 order by pg_catalog.sum(q.nbfiltered) desc, 1, 2, 3, 4, 5, 6
 limit 2000
