-- Sessions of this database that hold a snapshot, oldest first. (Auto)vacuum's do not hold up a build.
select 'pid ' || a.pid::text as who,
       extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age_s
from pg_catalog.pg_stat_activity a
where a.datname = pg_catalog.current_database()
  and a.backend_xmin is not null
  and a.pid <> all (%(own)s::int[])
  and a.backend_type not in ('autovacuum worker', 'walsender')
order by a.xact_start nulls first
