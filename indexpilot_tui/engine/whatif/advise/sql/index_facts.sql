-- What stands on each index, and how often it was scanned since this database's statistics were reset.
/* indexpilot */
select i.indexrelid::int8 as oid, i.indisunique as is_unique, i.indisreplident as replica_identity,
       i.indisclustered as clustered, i.indisexclusion as exclusion,
       exists (select 1 from pg_catalog.pg_constraint k where k.conindid = i.indexrelid) as constrained,
       exists (select 1 from pg_catalog.pg_inherits h where h.inhrelid = i.indexrelid) as of_partition,
       exists (select 1 from pg_catalog.pg_constraint k
                where k.contype = 'f' and k.conrelid = i.indrelid
                  and k.conkey @> array[(i.indkey::int2[])[0]]) as serves_foreign_key,
       pg_catalog.pg_stat_get_numscans(i.indexrelid) as scans,
       extract(epoch from pg_catalog.now() - (
         select d.stats_reset from pg_catalog.pg_stat_database d where d.datname = pg_catalog.current_database()))::float8
         as window_s
  from pg_catalog.pg_index i
 where i.indexrelid = any(%(oids)s::pg_catalog.oid[])
 order by i.indexrelid
