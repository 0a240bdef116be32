-- Replication slots, the WAL that each holds back and what is left before the server gives it up (null: no limit is set).
select /* indexpilot */ s.slot_name as name, s.slot_type as kind, s.active, s.temporary, s.wal_status,
       pg_catalog.pg_wal_lsn_diff(h.lsn, s.restart_lsn)::float8 as retained_bytes,
       s.safe_wal_size::float8 as safe_bytes,
       pg_catalog.age(s.xmin)::int8 as xmin_age, pg_catalog.age(s.catalog_xmin)::int8 as catalog_xmin_age
from pg_catalog.pg_get_replication_slots() s,
     (select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                  else pg_catalog.pg_current_wal_insert_lsn() end as lsn) h
order by 1
