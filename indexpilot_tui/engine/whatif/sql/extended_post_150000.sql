-- Extended statistics: definitions and what ANALYZE found (distinct counts and dependencies as their stored bytes).
/* indexpilot */
select e.oid::int8 as oid, e.stxrelid::int8 as table_oid, n.nspname::text as schema, e.stxname::text as name,
       pg_catalog.pg_get_statisticsobjdef(e.oid) as definition, coalesce(x.inherited, false) as inherited,
       x.n_distinct::bytea as ndistinct, x.dependencies::bytea as dependencies,
       x.most_common_vals as mcv, x.most_common_val_nulls as mcv_nulls,
       x.most_common_freqs::float8[] as mcf, x.most_common_base_freqs::float8[] as mcf_base,
       array(select a.attname::text from pg_catalog.unnest(e.stxkeys::int2[]) with ordinality as k(number, o)
               join pg_catalog.pg_attribute a on a.attrelid = e.stxrelid and a.attnum = k.number order by k.o) as columns,
       coalesce(pg_catalog.pg_get_statisticsobjdef_expressions(e.oid), array[]::text[]) as expressions
  from pg_catalog.pg_statistic_ext e
  join pg_catalog.pg_namespace n on n.oid = e.stxnamespace
  left join pg_catalog.pg_stats_ext x on x.statistics_schemaname = n.nspname and x.statistics_name = e.stxname
 where e.stxrelid = any(%(oids)s::pg_catalog.oid[])
 order by e.oid
