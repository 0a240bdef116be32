-- Extended statistics: definitions, and the two kinds that the shadow can take over (as their stored bytes).
select e.oid::int8 as oid, e.stxrelid::int8 as table_oid, n.nspname::text as schema, e.stxname::text as name,
       pg_catalog.pg_get_statisticsobjdef(e.oid) as definition, false as inherited,
       x.n_distinct::bytea as ndistinct, x.dependencies::bytea as dependencies, x.most_common_vals is not null as has_mcv
  from pg_catalog.pg_statistic_ext e
  join pg_catalog.pg_namespace n on n.oid = e.stxnamespace
  left join pg_catalog.pg_stats_ext x on x.statistics_schemaname = n.nspname and x.statistics_name = e.stxname
 where e.stxrelid = any(%(oids)s::pg_catalog.oid[])
 order by e.oid
