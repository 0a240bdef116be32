-- The database as the planner sees it.
-- An ICU database is never C for the planner, the builtin provider's locales always are.
/* indexpilot */
select case d.datlocprovider when 'i' then 'icu' when 'b' then 'C' else d.datcollate end as collate, d.datctype as ctype,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') as locale,
       pg_catalog.pg_encoding_to_char(d.encoding) as encoding,
       (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path') as search_path,
       pg_catalog.current_setting('block_size')::int4 as block_size,
       exists (select 1 from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                where n.nspname = 'indexpilot' and pg_catalog.pg_get_userbyid(n.nspowner) = 'indexpilot_owner'
                  and p.proname = 'column_statistics' and p.prosecdef
                  and pg_catalog.pg_get_userbyid(p.proowner) = 'indexpilot_statistics'
                  and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                  and pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) as statistics_reader,
       (select s.setting::int8 * 1024 from pg_catalog.pg_settings s where s.name = 'maintenance_work_mem')
         as maintenance_work_mem,
       array(select array[n.nspname::text, co.collname::text,
                          coalesce(pg_catalog.to_jsonb(co) ->> 'colllocale', pg_catalog.to_jsonb(co) ->> 'colliculocale',
                                   co.collcollate::text, ''), co.collprovider::text, co.collisdeterministic::text]
               from pg_catalog.pg_collation co
               join pg_catalog.pg_namespace n on n.oid = co.collnamespace
              where co.oid >= 16384 order by 1 limit 100) as collations,
       array(select e.extname::text from pg_catalog.pg_extension e order by 1) as extensions,
       array(select n.nspname::text from pg_catalog.pg_extension e
               join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by e.extname::text) as extension_schemas
  from pg_catalog.pg_database d
 where d.datname = pg_catalog.current_database()
