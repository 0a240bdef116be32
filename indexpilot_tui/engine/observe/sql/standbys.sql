-- The standbys that are connected to this server, with how far each is behind; on a standby, those that hang on it.
-- Without pg_monitor the server shows that they are there, and nothing else of them: then state is null.
select /* indexpilot */ s.pid, coalesce(nullif(s.application_name, ''), s.pid::text) as name,
       pg_catalog.host(s.client_addr) as address, s.state, s.sync_state,
       pg_catalog.pg_wal_lsn_diff(h.lsn, s.sent_lsn)::float8 as send_bytes,
       pg_catalog.pg_wal_lsn_diff(h.lsn, s.flush_lsn)::float8 as flush_bytes,
       pg_catalog.pg_wal_lsn_diff(h.lsn, s.replay_lsn)::float8 as replay_bytes,
       extract(epoch from s.flush_lag)::float8 as flush_s,
       extract(epoch from s.replay_lag)::float8 as replay_s,
       extract(epoch from pg_catalog.clock_timestamp() - s.reply_time)::float8 as reply_s
from pg_catalog.pg_stat_replication s,
     (select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                  else pg_catalog.pg_current_wal_insert_lsn() end as lsn) h
order by 2, 1
