-- Prepared transactions of the whole server: they hold their locks and keep rows from being cleaned until somebody ends them.
select /* indexpilot */ x.transaction::text as xid, x.gid, x.owner::text as owner, x.database::text as database,
       extract(epoch from pg_catalog.clock_timestamp() - x.prepared)::float8 as age_s,
       pg_catalog.age(x.transaction)::int8 as xmin_age
from pg_catalog.pg_prepared_xacts x
order by x.prepared
limit 200
