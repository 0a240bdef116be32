-- The process that answers us now.
select pg_catalog.pg_backend_pid() as pid
