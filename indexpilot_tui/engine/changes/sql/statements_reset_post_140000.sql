-- When the counters began (14+). {schema}: home of the extension.
select i.stats_reset from {schema}.pg_stat_statements_info i
