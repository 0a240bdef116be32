-- Functions of these names that somebody made here, with what a planner has to know of them. The text only where it is a
-- function of SQL that is declared immutable: no other may run elsewhere.
/* indexpilot */
select p.oid::int8 as oid, n.nspname::text as schema, p.proname::text as name, l.lanname::text as language,
       p.provolatile::text as volatility, p.proisstrict as strict, p.procost::float8 as cost, p.prorows::float8 as rows,
       p.proparallel::text as parallel, p.proretset as returns_set,
       pg_catalog.pg_get_function_arguments(p.oid) as arguments,
       pg_catalog.pg_get_function_identity_arguments(p.oid) as identity,
       pg_catalog.pg_get_function_result(p.oid) as result,
       case when l.lanname = 'sql' and p.provolatile = 'i' then pg_catalog.pg_get_functiondef(p.oid) end as definition,
       case when l.lanname = 'sql' and p.provolatile = 'i' then p.prosrc end as body
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
 where p.proname = any(%(names)s::pg_catalog.name[]) and p.oid >= 16384 and p.prokind = 'f'
   and p.prorettype <> all('{pg_catalog.trigger,pg_catalog.event_trigger,pg_catalog.internal}'::pg_catalog.regtype[])
   and not exists (select 1 from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')
 order by p.oid
 limit 1000
