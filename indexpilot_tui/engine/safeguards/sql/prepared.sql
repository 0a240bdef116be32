-- Prepared transactions of this database, oldest first.
select 'gid ' || pg_catalog.left(p.gid, 60) as who,
       extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::float8 as age_s
from pg_catalog.pg_prepared_xacts p
where p.database = pg_catalog.current_database()
order by p.prepared
