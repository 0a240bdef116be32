-- The archiver's own account: how old the newest archived WAL is, and whether its last attempt failed.
select pg_catalog.current_setting('archive_mode') as mode,
       extract(epoch from pg_catalog.clock_timestamp() - a.last_archived_time)::float8 as age_s,
       a.last_archived_wal,
       coalesce(a.last_failed_time > coalesce(a.last_archived_time, '-infinity'), false) as failing,
       a.last_failed_wal
from pg_catalog.pg_stat_archiver a
