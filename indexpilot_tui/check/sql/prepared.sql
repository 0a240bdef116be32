-- Prepared transactions of this database.
/* indexpilot */
select p.gid, p.owner::text as owner, extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::float8 as age_s
from pg_catalog.pg_prepared_xacts p
where p.database = pg_catalog.current_database()
order by p.prepared
