-- Column statistics of tables that this role may not read, by the function that setup-sql makes for it.
/* indexpilot */
select s.schema, s.relation, s.column, s.inherited, s.null_frac, s.avg_width, s.n_distinct, s.mcv, s.mcf, s.histogram,
       s.correlation, s.mce, s.mcef, s.elem_counts, s.range_lengths, s.range_empty, s.range_bounds
  from indexpilot.column_statistics(%(schemas)s::pg_catalog.name[], %(names)s::pg_catalog.name[]) s
