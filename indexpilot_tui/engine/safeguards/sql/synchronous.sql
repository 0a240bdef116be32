-- The standbys that a commit waits for, as the administrator wrote them.
select pg_catalog.current_setting('synchronous_standby_names') as names
