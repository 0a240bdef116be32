-- The constants with which conditions on columns were executed, by statement and by the group of conditions that were tested together, the
-- most frequent first. From pg_qualstats, which sees those of prepared statements, too. The operator is as it was written, whichever side the
-- column stood on; in an index ("in_index") it is as if the column stood on the left.
/* indexpilot */
select q.queryid, coalesce(q.uniquequalid, q.uniquequalnodeid) as together, a.attname::text as "column", o.oprname::text as operator,
       q.eval_type = 'i' as in_index, q.constvalue as value, pg_catalog.sum(q.occurences)::int8 as times
  from {schema}.pg_qualstats() q
  join pg_catalog.pg_attribute a on a.attrelid = coalesce(q.lrelid, q.rrelid) and a.attnum = coalesce(q.lattnum, q.rattnum)
  join pg_catalog.pg_operator o on o.oid = q.opno
 where q.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
   and q.constvalue is not null and (q.lrelid is null or q.rrelid is null)
   and q.queryid = any(%(queryids)s::int8[])
 group by 1, 2, 3, 4, 5, 6
 order by pg_catalog.max(pg_catalog.sum(q.occurences)) over (partition by q.queryid, coalesce(q.uniquequalid, q.uniquequalnodeid)) desc,
          1, 2, 3, 4, 6
 limit 5000
