-- When the counters began; not told before 14. {schema}: home of the extension.
select null::timestamptz as stats_reset
