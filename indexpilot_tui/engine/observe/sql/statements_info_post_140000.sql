-- When pg_stat_statements was reset, and how often it was full. From extension 1.9 on. Asked before the counters: a reset
-- in between then shows in the next refresh, and never as a lifetime of counters in a short time.
select /* indexpilot */ i.stats_reset, i.dealloc,
       pg_catalog.statement_timestamp() as began, pg_catalog.clock_timestamp() as done
from {schema}.pg_stat_statements_info() i
