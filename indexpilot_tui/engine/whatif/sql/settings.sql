-- The settings that a plan depends on, in their base units.
/* indexpilot */
select s.name, s.setting
  from pg_catalog.pg_settings s
 where s.category like 'Query Tuning%%'
    or s.name in ('work_mem', 'hash_mem_multiplier', 'max_parallel_workers_per_gather', 'max_parallel_workers',
                  'max_worker_processes', 'parallel_leader_participation', 'effective_io_concurrency',
                  'DateStyle', 'IntervalStyle', 'TimeZone', 'extra_float_digits', 'default_text_search_config')
 order by s.name
