-- Since when scans are counted, and which standbys there are whose scans are not in these counters. One row.
-- From 15 on the database's own reset time is null until somebody resets; the counters then are as old as the fixed ones.
/* indexpilot */
select pg_catalog.clock_timestamp() as at,
       coalesce(pg_catalog.pg_stat_get_db_stat_reset_time(d.oid),
                case when pg_catalog.current_setting('server_version_num')::int >= 150000
                     then pg_catalog.pg_stat_get_bgwriter_stat_reset_time() end) as stats_since,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       (select pg_catalog.count(*) from pg_catalog.pg_stat_replication)::int4 as standbys,
       (select pg_catalog.count(*) from pg_catalog.pg_replication_slots s where s.slot_type = 'physical')::int4 as slots
  from pg_catalog.pg_database d
 where d.datname = pg_catalog.current_database()
