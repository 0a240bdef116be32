-- Types that are not PostgreSQL's own, behind the types of some columns: elements, bases, attributes, subtypes.
/* indexpilot */
with recursive used(oid) as (
  select pg_catalog.unnest(%(types)s::pg_catalog.oid[])
  union
  select x.oid
    from used u
    join pg_catalog.pg_type t on t.oid = u.oid
   cross join lateral (
     select t.typelem as oid where t.typelem <> 0
      union all
     select t.typbasetype where t.typbasetype <> 0
      union all
     select a.atttypid from pg_catalog.pg_attribute a
      where t.typrelid <> 0 and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
      union all
     select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid
   ) x
)
select t.oid::int8 as oid, n.nspname::text as schema, t.typname::text as name, t.typtype::text as kind,
       t.typelem <> 0 and t.typlen = -1 as is_array,
       t.typtype = 'd' and (t.typnotnull or exists (select 1 from pg_catalog.pg_constraint k where k.contypid = t.oid))
         as constrained,
       case when t.typtype = 'd' and t.typcollation <> b.typcollation then cn.nspname::text end as collation_schema,
       case when t.typtype = 'd' and t.typcollation <> b.typcollation then co.collname::text end as collation_name,
       coalesce(pg_catalog.to_jsonb(co) ->> 'colllocale', pg_catalog.to_jsonb(co) ->> 'colliculocale', co.collcollate::text)
         as collation_locale,
       co.collprovider::text as collation_provider, co.collisdeterministic as collation_deterministic,
       pg_catalog.format_type(t.typbasetype, t.typtypmod) as base,
       array(select l.enumlabel::text from pg_catalog.pg_enum l where l.enumtypid = t.oid order by l.enumsortorder) as labels,
       array(select a.attname::text from pg_catalog.pg_attribute a
              where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
              order by a.attnum) as attribute_names,
       array(select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
              where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
              order by a.attnum) as attribute_types,
       (select pg_catalog.format_type(r.rngsubtype, null) from pg_catalog.pg_range r where r.rngtypid = t.oid) as subtype,
       (select e.extname::text from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
         where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.objid = t.oid and d.deptype = 'e'
           and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass limit 1) as extension
  from used u
  join pg_catalog.pg_type t on t.oid = u.oid
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  left join pg_catalog.pg_type b on b.oid = t.typbasetype
  left join pg_catalog.pg_collation co on co.oid = t.typcollation
  left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
 where n.nspname <> 'pg_catalog'
 order by t.oid
