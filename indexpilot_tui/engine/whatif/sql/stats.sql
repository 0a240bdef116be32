-- Column statistics, of tables and of expression indexes. The arrays of constants let the view use pg_class's index.
/* indexpilot */
select s.schemaname::text as schema, s.tablename::text as relation, s.attname::text as column, s.inherited,
       s.null_frac::text, s.avg_width, s.n_distinct::float8 as n_distinct, s.most_common_vals::text as mcv,
       s.most_common_freqs::text as mcf, s.histogram_bounds::text as histogram, s.correlation::text as correlation,
       s.most_common_elems::text as mce, s.most_common_elem_freqs::text as mcef,
       s.elem_count_histogram::text as elem_counts,
       null::text as range_lengths, null::text as range_empty, null::text as range_bounds
  from pg_catalog.pg_stats s
 where s.schemaname = any(%(schemas)s::pg_catalog.name[]) and s.tablename = any(%(names)s::pg_catalog.name[])
 order by 1, 2, 3, 4
