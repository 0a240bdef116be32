-- Which type is made of which: elements, bases, attributes, subtypes.
/* indexpilot */
select t.oid::int8 as "from", x.oid::int8 as "to"
  from pg_catalog.pg_type t
 cross join lateral (
   select t.typelem as oid where t.typelem <> 0
    union
   select t.typbasetype where t.typbasetype <> 0
    union
   select a.atttypid from pg_catalog.pg_attribute a
    where t.typrelid <> 0 and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    union
   select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid
 ) x
 where t.oid = any(%(types)s::pg_catalog.oid[])
 order by 1, 2
