-- What the planner may conclude from: validated checks (exclusion), and foreign keys (join selectivity).
/* indexpilot */
select k.conrelid::int8 as table_oid, k.conname::text as name, k.contype::text as kind,
       pg_catalog.pg_get_constraintdef(k.oid) as definition
  from pg_catalog.pg_constraint k
 where k.conrelid = any(%(oids)s::pg_catalog.oid[]) and k.convalidated and k.conparentid = 0
   and (k.contype = 'c' or k.contype = 'f' and k.confrelid = any(%(oids)s::pg_catalog.oid[]))
 order by k.conrelid, k.contype, k.conname
