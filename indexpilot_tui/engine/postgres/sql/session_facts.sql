-- Who and what is at the other end of this session. One row.
select pg_catalog.current_setting('server_version_num')::int as server_version,
       pg_catalog.current_database()::text as database,
       (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())::int8 as database_oid,
       session_user::text as session_user,
       (select c.system_identifier::text from pg_catalog.pg_control_system() c) as system_identifier,
       case when pg_catalog.pg_is_in_recovery()
            then (select k.timeline_id from pg_catalog.pg_control_checkpoint() k)
            else ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
       end as timeline,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       pg_catalog.pg_backend_pid() as server_pid,
       pg_catalog.clock_timestamp() as server_time,
       (select s.version from pg_catalog.pg_stat_ssl s where s.pid = pg_catalog.pg_backend_pid()) as tls_version,
       (select s.cipher from pg_catalog.pg_stat_ssl s where s.pid = pg_catalog.pg_backend_pid()) as tls_cipher
