-- Who our backend waits for, the oldest transaction first. A prepared transaction has no process: its pid is 0.
select w.pid, a.state, a.application_name, a.query,
       extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age_s
from (select distinct b.pid from pg_catalog.unnest(pg_catalog.pg_blocking_pids(%(pid)s)) as b (pid)) w
left join pg_catalog.pg_stat_activity a on a.pid = w.pid
order by a.xact_start nulls first
