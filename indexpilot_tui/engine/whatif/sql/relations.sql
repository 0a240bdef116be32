-- The relations behind some OIDs: with the partitions and parents of tables and what views read, all the way down.
-- `readable`: pg_stats shows the statistics of all their columns to this role.
/* indexpilot */
with recursive involved(oid) as (
  select pg_catalog.unnest(%(oids)s::pg_catalog.oid[])
  union
  select x.oid
    from involved i
   cross join lateral (
     select h.inhrelid as oid from pg_catalog.pg_inherits h where h.inhparent = i.oid
      union all
     select h.inhparent from pg_catalog.pg_inherits h where h.inhrelid = i.oid
      union all
     select d.refobjid
       from pg_catalog.pg_class v
       join pg_catalog.pg_rewrite r on r.ev_class = v.oid
       join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> v.oid
      where v.oid = i.oid and v.relkind = 'v'
   ) x
)
select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as kind,
       c.relpages, c.reltuples::float8 as reltuples, c.relallvisible, c.relrowsecurity as row_security,
       c.reloptions, c.relpersistence::text as persistence, c.relispartition as is_partition,
       case when c.relispartition then pg_catalog.pg_get_expr(c.relpartbound, c.oid) end as bound,
       case when c.relkind = 'p' then pg_catalog.pg_get_partkeydef(c.oid) end as part_key,
       case when c.relkind = 'v' then pg_catalog.pg_get_viewdef(c.oid) end as view,
       array(select h.inhparent::int8 from pg_catalog.pg_inherits h where h.inhrelid = c.oid order by h.inhseqno) as parents,
       not pg_catalog.row_security_active(c.oid)
         and (pg_catalog.has_table_privilege(c.oid, 'SELECT')
              or not exists (select 1 from pg_catalog.pg_attribute a
                              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                                and not pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'))) as readable,
       (select t.spcoptions from pg_catalog.pg_tablespace t where t.oid = c.reltablespace) as tablespace_options,
       pg_catalog.pg_stat_get_mod_since_analyze(c.oid) as modified,
       pg_catalog.pg_stat_get_tuples_updated(c.oid) as updated,
       pg_catalog.pg_stat_get_tuples_hot_updated(c.oid) as hot_updated,
       extract(epoch from pg_catalog.now() - greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
               pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)))::float8 as analyzed_s_ago
  from (select distinct i.oid from involved i) i
  join pg_catalog.pg_class c on c.oid = i.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
 order by c.oid
