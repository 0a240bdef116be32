-- All that it takes to make an index again, and what speaks against dropping it. By OID.
select i.indisprimary as is_primary, i.indisunique as is_unique, i.indisexclusion as is_exclusion,
       i.indisreplident as is_replica_identity, i.indisclustered as is_clustered, i.indisvalid as valid,
       ic.relispartition as is_partition, ic.relkind::text as relkind,
       tc.relname::text as table_name, tn.nspname::text as table_schema, tc.oid::int8 as table_oid,
       tn.nspname in ('pg_catalog', 'information_schema', 'pg_toast') as is_system,
       pg_catalog.pg_get_userbyid(tc.relowner)::text as owner,
       m.amname::text as method, ic.relfilenode::int8 as relfilenode, tc.relpersistence::text as persistence,
       (select con.conname::text from pg_catalog.pg_constraint con
        where con.conindid = ic.oid and con.contype in ('p', 'u', 'x') limit 1) as constraint_name,
       (select con.conname::text from pg_catalog.pg_constraint con
        where con.conindid = ic.oid and con.contype = 'f' limit 1) as foreign_key,
       pg_catalog.obj_description(ic.oid, 'pg_class') as comment,
       (select t.spcname::text from pg_catalog.pg_tablespace t where t.oid = ic.reltablespace) as tablespace,
       coalesce(ic.reloptions, '{}')::text[] as options,
       (select pg_catalog.jsonb_object_agg(a.attnum::text, a.attstattarget order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid = ic.oid and a.attstattarget >= 0) as statistics,
       s.idx_scan::int8 as scans,
       (select d.stats_reset from pg_catalog.pg_stat_database d where d.datname = pg_catalog.current_database()) as scans_since
from pg_catalog.pg_class ic
join pg_catalog.pg_index i on i.indexrelid = ic.oid
join pg_catalog.pg_class tc on tc.oid = i.indrelid
join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace
join pg_catalog.pg_am m on m.oid = ic.relam
left join pg_catalog.pg_stat_user_indexes s on s.indexrelid = ic.oid
where ic.oid = %(oid)s::int8::pg_catalog.oid
