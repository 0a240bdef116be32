-- What this node is, now. One row.
/* indexpilot */
select pg_catalog.pg_is_in_recovery() as in_recovery,
       pg_catalog.clock_timestamp() as now,
       pg_catalog.current_setting('max_prepared_transactions')::int as max_prepared_transactions
