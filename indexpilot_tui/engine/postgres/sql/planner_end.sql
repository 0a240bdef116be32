-- Whether the transaction in which something was planned is still what it was: it only reads, has written nothing, and acts as its login.
select pg_catalog.current_setting('transaction_read_only') = 'on' as read_only,
       pg_catalog.pg_current_xact_id_if_assigned() is null as wrote_nothing,
       current_user = session_user and session_user = %(login)s as itself,
       pg_catalog.current_setting('search_path') = 'pg_catalog' as path
