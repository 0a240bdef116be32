-- Whether WAL piles up: a slot that nobody reads, or an archiver whose last attempt failed.
select exists (select from pg_catalog.pg_replication_slots s where not s.active and s.restart_lsn is not null) as slot,
       coalesce((select a.last_failed_time > coalesce(a.last_archived_time, '-infinity') from pg_catalog.pg_stat_archiver a), false)
       and pg_catalog.current_setting('archive_mode') <> 'off' as archiver
