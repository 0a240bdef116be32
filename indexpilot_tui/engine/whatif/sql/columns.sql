-- Columns by number, dropped ones too: extended statistics and indexes name columns by number.
/* indexpilot */
select a.attrelid::int8 as oid, a.attnum::int4 as number, a.attname::text as name, a.attisdropped as dropped,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.atttypid::int8 as type_oid, a.attnotnull as not_null,
       a.attgenerated::text as generated,
       case when a.attgenerated <> '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end as expression,
       case when a.attcollation <> t.typcollation then cn.nspname::text end as collation_schema,
       case when a.attcollation <> t.typcollation then co.collname::text end as collation_name,
       case when a.attcollation <> t.typcollation then co.collcollate::text end as collation_locale
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join pg_catalog.pg_collation co on co.oid = a.attcollation
  left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
 where a.attrelid = any(%(oids)s::pg_catalog.oid[]) and a.attnum > 0
 order by a.attrelid, a.attnum
