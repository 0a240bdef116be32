-- What stands on some indexes, INVALID ones too, and what they are used for. One row an index.
-- pg_constraint has no index by which to ask for those of an index, so it is read once for all of them.
/* indexpilot */
with own as materialized (
  select k.conindid, k.conrelid, k.conname, k.contype
    from pg_catalog.pg_constraint k
   where k.contype in ('p', 'u', 'x') and k.conindid = any(%(oids)s::pg_catalog.oid[])
), referring as materialized (
  select f.conindid, pg_catalog.count(*)::int4 as keys, pg_catalog.array_agg(f.conname::text order by f.oid) as names,
         pg_catalog.array_agg(f.conrelid::int8 order by f.oid) as tables
    from pg_catalog.pg_constraint f
   where f.contype = 'f' and f.conindid = any(%(oids)s::pg_catalog.oid[])
   group by f.conindid
)
select i.indexrelid::int8 as oid, i.indrelid::int8 as table_oid, n.nspname::text as schema, c.relname::text as name,
       am.amname::text as method, c.relkind = 'I' as partitioned, i.indisvalid as valid, i.indisready as ready,
       i.indislive as live, i.indisunique as is_unique, i.indisprimary as is_primary, i.indimmediate as immediate,
       i.indisreplident as replica_identity, i.indisclustered as clustered, i.indnkeyatts::int4 as key_columns,
       array(select k::int4 from pg_catalog.unnest(i.indkey::int2[]) with ordinality as u(k, o) order by o) as columns,
       i.indpred is not null as is_partial, i.indexprs is not null as has_expressions,
       h.inhparent is not null as of_partition, pn.nspname::text as parent_schema, pc.relname::text as parent_name,
       k.conname::text as constraint_name, k.contype::text as constraint_kind,
       coalesce(r.keys, 0) as foreign_keys, coalesce(r.names[1:20], array[]::text[]) as foreign_key_names,
       coalesce(r.tables[1:20], array[]::int8[]) as foreign_key_tables,
       pg_catalog.pg_stat_get_numscans(i.indexrelid)::int8 as scans, null::timestamptz as last_scan
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_am am on am.oid = c.relam
  left join pg_catalog.pg_inherits h on h.inhrelid = i.indexrelid
  left join pg_catalog.pg_class pc on pc.oid = h.inhparent
  left join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace
  left join own k on k.conindid = i.indexrelid and k.conrelid = i.indrelid
  left join referring r on r.conindid = i.indexrelid
 where i.indexrelid = any(%(oids)s::pg_catalog.oid[])
 order by i.indexrelid
