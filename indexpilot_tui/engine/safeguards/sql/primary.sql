-- Is this the primary, and of which cluster.
select pg_catalog.pg_is_in_recovery() as in_recovery,
       (select c.system_identifier::text from pg_catalog.pg_control_system() c) as system_identifier
