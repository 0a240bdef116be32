-- The relations through which a statement can reach a table: its partition parents and children, and views over them.
/* indexpilot */
with recursive reach(oid) as (
  select %(oid)s::pg_catalog.oid
  union
  select x.oid
    from reach i
   cross join lateral (
     select h.inhparent as oid from pg_catalog.pg_inherits h where h.inhrelid = i.oid
      union all
     select h.inhrelid from pg_catalog.pg_inherits h where h.inhparent = i.oid
      union all
     select r.ev_class
       from pg_catalog.pg_depend d
       join pg_catalog.pg_rewrite r on r.oid = d.objid
       join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind = 'v'
      where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = i.oid
   ) x
)
select r.oid::int8 as oid from reach r
