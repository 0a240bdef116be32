-- What each database of the server has done since its counters were reset. Time at work is not counted before 14.
-- Read from the functions and not from the view, for the view adds up what is not needed here.
select /* indexpilot */ d.oid::int8 as oid, d.datname::text as name, null::float8 as active_ms,
       pg_catalog.pg_stat_get_db_xact_commit(d.oid) + pg_catalog.pg_stat_get_db_xact_rollback(d.oid) as xacts,
       pg_catalog.pg_stat_get_db_blocks_hit(d.oid) as blocks_hit,
       pg_catalog.pg_stat_get_db_blocks_fetched(d.oid) - pg_catalog.pg_stat_get_db_blocks_hit(d.oid) as blocks_read,
       pg_catalog.pg_stat_get_db_tuples_returned(d.oid) as rows,
       pg_catalog.pg_stat_get_db_temp_bytes(d.oid) as temp_bytes,
       pg_catalog.pg_stat_get_db_numbackends(d.oid) as sessions,
       pg_catalog.clock_timestamp() as at
from pg_catalog.pg_database d
where d.datallowconn
