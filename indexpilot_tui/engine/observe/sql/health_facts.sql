-- Since when scans are counted, what this node is, and which operator classes are two names of one. One row.
-- Before 15 the database's own reset time is always known. From 15 on it is null until somebody resets; then the counters
-- are as old as the cumulative statistics themselves, which start anew (with all the fixed ones, such as the background
-- writer's) after a crash. A reset of the background writer's alone only makes the window look shorter than it is.
select /* indexpilot */ pg_catalog.clock_timestamp() as at,
       coalesce(pg_catalog.pg_stat_get_db_stat_reset_time(d.oid),
                case when pg_catalog.current_setting('server_version_num')::int >= 150000
                     then pg_catalog.pg_stat_get_bgwriter_stat_reset_time() end) as stats_since,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       (select pg_catalog.count(*) from pg_catalog.pg_stat_replication)::int as standbys,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') as reads_all_stats,
       (select pg_catalog.json_agg(s.twins) from (
          select pg_catalog.json_agg(o.oid::int8) as twins from pg_catalog.pg_opclass o
          group by o.opcmethod, o.opcfamily, o.opcintype, o.opckeytype having pg_catalog.count(*) > 1) s) as opclass_twins
from pg_catalog.pg_database d
where d.datname = pg_catalog.current_database()
