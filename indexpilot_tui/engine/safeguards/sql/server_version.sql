-- What decides whether concurrent builds of this server can be trusted.
select pg_catalog.current_setting('server_version_num')::int as version,
       pg_catalog.current_setting('max_prepared_transactions')::int as max_prepared
