-- Before extension 1.9 nothing tells of resets and evictions. Only the clock, so that what is asked before and after can be told apart.
select /* indexpilot */ null::timestamptz as stats_reset, null::int8 as dealloc,
       pg_catalog.statement_timestamp() as began, pg_catalog.clock_timestamp() as done
