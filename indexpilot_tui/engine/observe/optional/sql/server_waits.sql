-- What the sessions of the server were seen to wait for, in samples since the reset. One row. Left out: background processes that wait for
-- work, and sessions that wait for their clients without a statement.
select /* indexpilot */ pg_catalog.clock_timestamp() as at,
       pg_catalog.current_setting('pg_wait_sampling.profile_queries', true) as profiled,
       pg_catalog.current_setting('pg_wait_sampling.profile_period', true) as period_ms,
       (select pg_catalog.json_agg(pg_catalog.json_build_array(w.name, w.samples))
        from (select pg_catalog.concat(p.event_type, ':', p.event) as name, pg_catalog.sum(p.count)::int8 as samples
              from {schema}.pg_wait_sampling_profile p
              where p.event_type is not null and p.event_type <> 'Activity'
                and not (p.event_type = 'Client' and coalesce(p.queryid, 0) = 0)
              group by p.event_type, p.event) w) as waits
