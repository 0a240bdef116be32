-- Columns by number, dropped ones too: extended statistics and indexes name columns by number.
-- Where the locale of an ICU collation is differs by version, so it is looked up by name.
/* indexpilot */
select a.attrelid::int8 as oid, a.attnum::int4 as number, a.attname::text as name, a.attisdropped as dropped,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.atttypid::int8 as type_oid, a.attnotnull as not_null,
       a.attgenerated::text as generated, a.attidentity::text as identity,
       case when a.attgenerated <> '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end as expression,
       case when a.attgenerated = '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end as "default",
       cn.nspname::text as collation_schema, co.collname::text as collation_name,
       coalesce(pg_catalog.to_jsonb(co) ->> 'colllocale', pg_catalog.to_jsonb(co) ->> 'colliculocale', co.collcollate::text)
         as collation_locale,
       co.collprovider::text as collation_provider, co.collisdeterministic as collation_deterministic
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join pg_catalog.pg_collation co on co.oid = a.attcollation and a.attcollation <> t.typcollation
  left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
 where a.attrelid = any(%(oids)s::pg_catalog.oid[]) and a.attnum > 0
 order by a.attrelid, a.attnum
