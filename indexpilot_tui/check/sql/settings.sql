-- Some settings in force for this session.
/* indexpilot */
select s.name, s.setting from pg_catalog.pg_settings s where s.name = any(%(names)s)
