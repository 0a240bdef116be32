-- The database's clock.
select pg_catalog.clock_timestamp() as now
