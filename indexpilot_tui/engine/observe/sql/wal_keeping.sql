-- What becomes of the WAL: the archiver's last success and failure, the checkpointer's limits, and on a standby how far it is behind. One row.
select /* indexpilot */ pg_catalog.current_setting('archive_mode') as archive_mode,
       a.archived_count, a.failed_count, a.last_archived_time, a.last_failed_time,
       a.last_failed_time is not null and (a.last_archived_time is null or a.last_failed_time > a.last_archived_time) as archive_failing,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))::float8 as max_wal_bytes,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       case when pg_catalog.pg_is_in_recovery()
            then extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::float8 end as replayed_s_ago,
       case when pg_catalog.pg_is_in_recovery() and pg_catalog.pg_last_wal_receive_lsn() is not null
            then pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())::float8
       end as replay_bytes
from pg_catalog.pg_stat_get_archiver() a
