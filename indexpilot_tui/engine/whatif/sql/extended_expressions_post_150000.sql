-- Statistics of the expressions of extended statistics, in the shape of those of columns.
/* indexpilot */
select s.statistics_schemaname::text as schema, s.statistics_name::text as relation, s.expr as column, s.inherited as inherited,
       s.null_frac::text, s.avg_width, s.n_distinct::float8 as n_distinct, s.most_common_vals::text as mcv,
       s.most_common_freqs::text as mcf, s.histogram_bounds::text as histogram, s.correlation::text as correlation,
       s.most_common_elems::text as mce, s.most_common_elem_freqs::text as mcef,
       s.elem_count_histogram::text as elem_counts,
       null::text as range_lengths, null::text as range_empty, null::text as range_bounds
  from pg_catalog.pg_stats_ext_exprs s
 where s.statistics_schemaname = any(%(schemas)s::pg_catalog.name[]) and s.statistics_name = any(%(names)s::pg_catalog.name[])
   and s.null_frac is not null
 order by 1, 2, 3, 4
