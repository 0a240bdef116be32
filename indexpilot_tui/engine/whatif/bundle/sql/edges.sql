-- Which relation leads to which: a partition or child to its parent, a view to what it reads.
/* indexpilot */
select 'i' as kind, h.inhrelid::int8 as "from", h.inhparent::int8 as "to"
  from pg_catalog.pg_inherits h
  join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relkind in ('r', 'p', 'f')
 union
select 'v', v.oid::int8, d.refobjid::int8
  from pg_catalog.pg_class v
  join pg_catalog.pg_namespace n on n.oid = v.relnamespace and n.nspname not in ('pg_catalog', 'information_schema')
  join pg_catalog.pg_rewrite r on r.ev_class = v.oid
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> v.oid
 where v.relkind = 'v'
 order by 1, 2, 3
