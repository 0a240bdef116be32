-- How long an executor may hold a change without a word: nobody takes over before that, so no login may hold one for good.
CREATE OR REPLACE FUNCTION indexpilot._lease(p_seconds double precision) RETURNS interval
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_seconds IS NULL OR p_seconds < 0 OR p_seconds > 3600 THEN  -- NaN is greater than every number
    RAISE EXCEPTION 'a lease lasts at most 3600 seconds, not %', coalesce(p_seconds::text, 'NULL') USING ERRCODE = 'IX004';
  END IF;
  RETURN make_interval(secs => p_seconds);
END
$$;
