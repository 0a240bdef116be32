-- Pages on disk, by OID: pg_relation_size by name needs USAGE on the schema, by OID it does not.
/* indexpilot */
select o::int8 as oid,
       (pg_catalog.pg_relation_size(o) / pg_catalog.current_setting('block_size')::int8)::int8 as pages
  from pg_catalog.unnest(%(oids)s::pg_catalog.oid[]) as o
