-- Every index of the user schemas in few words: whether anything of its definition has changed ("stamp": the row versions of it, of its
-- table and of the schema) and its scans. Nothing is locked and no file is looked at: some thousand indexes take milliseconds.
-- The order of the columns is that of `health_reader.State`.
select /* indexpilot */ i.indexrelid::int8, i.indrelid::int8,
       pg_catalog.hashtextextended(i.xmin::text || ' ' || c.xmin::text || ' ' || t.xmin::text || ' ' || n.xmin::text, 0),
       pg_catalog.pg_stat_get_numscans(i.indexrelid), null::timestamptz
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_class t on t.oid = i.indrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('i', 'I') and t.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'indexpilot')
