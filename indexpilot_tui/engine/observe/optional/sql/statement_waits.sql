-- What one statement was seen to wait for, in samples since the reset, by whichever session ran it. One row. Time on a CPU is not sampled.
select /* indexpilot */ pg_catalog.clock_timestamp() as at,
       pg_catalog.current_setting('pg_wait_sampling.profile_queries', true) as profiled,
       pg_catalog.current_setting('pg_wait_sampling.profile_period', true) as period_ms,
       (select pg_catalog.json_agg(pg_catalog.json_build_array(w.name, w.samples))
        from (select pg_catalog.concat(p.event_type, ':', p.event) as name, pg_catalog.sum(p.count)::int8 as samples
              from {schema}.pg_wait_sampling_profile p
              where p.queryid = %(queryid)s and p.event_type is not null
              group by p.event_type, p.event) w) as waits
