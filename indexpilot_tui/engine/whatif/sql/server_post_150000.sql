-- The database as the planner sees it.
-- An ICU database is never C for the planner, the builtin provider's locales always are.
select case d.datlocprovider when 'i' then 'icu' when 'b' then 'C' else d.datcollate end as collate, d.datctype as ctype, pg_catalog.pg_encoding_to_char(d.encoding) as encoding,
       (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path') as search_path,
       pg_catalog.current_setting('block_size')::int4 as block_size,
       (select s.setting::int8 * 1024 from pg_catalog.pg_settings s where s.name = 'maintenance_work_mem')
         as maintenance_work_mem,
       array(select e.extname::text from pg_catalog.pg_extension e order by 1) as extensions,
       array(select n.nspname::text from pg_catalog.pg_extension e
               join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by e.extname::text) as extension_schemas
  from pg_catalog.pg_database d
 where d.datname = pg_catalog.current_database()
