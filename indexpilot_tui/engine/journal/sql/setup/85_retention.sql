-- ------------------------------------------------------------------------------------------------- retention, and anchors
-- Removes the oldest rows of the log, a batch at a time. The cut is a row of the chain itself: it carries the hash of the last
-- row that was removed, so the rest of the chain still proves where it begins. Rows of a change that has not ended stay, and
-- with them all that is younger.
CREATE OR REPLACE FUNCTION indexpilot._cut_log(p_days integer, p_batch integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  first  bigint;
  last   bigint;
  newest indexpilot.mutation_log;
  n      integer;
BEGIN
  PERFORM FROM indexpilot.chain_head FOR UPDATE;  -- no writer meanwhile
  WITH oldest AS MATERIALIZED (SELECT l.seq, l.at, l.change_id FROM indexpilot.mutation_log l ORDER BY l.seq LIMIT p_batch)
  SELECT min(o.seq), coalesce(min(o.seq) FILTER (WHERE o.at >= clock_timestamp() - make_interval(days => p_days) OR EXISTS (
           SELECT FROM indexpilot.changes c WHERE c.id = o.change_id AND c.state NOT IN
             ('done', 'failed', 'rolled_back', 'rejected', 'expired', 'withdrawn'))), max(o.seq) + 1) - 1
  INTO first, last FROM oldest o;
  IF last IS NULL OR last < first THEN
    RETURN 0;
  END IF;
  SELECT * INTO STRICT newest FROM indexpilot.mutation_log l WHERE l.seq = last;
  PERFORM set_config('indexpilot.cut', 'on', true);
  DELETE FROM indexpilot.mutation_log l WHERE l.seq <= last;
  GET DIAGNOSTICS n = ROW_COUNT;
  PERFORM set_config('indexpilot.cut', '', true);
  PERFORM indexpilot._log(NULL, NULL, 'log.cut', jsonb_build_object('first_seq', first, 'last_seq', last, 'last_hash', newest.hash,
    'last_at', newest.at, 'rows', n, 'older_than_days', p_days));
  RETURN n;
END
$$;

-- One short transaction a call; the caller calls again while it gets more than 0.
CREATE OR REPLACE FUNCTION indexpilot.prune(p_what text, p_days integer, p_batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  keep integer := (SELECT keep_log_days FROM indexpilot.policy);
  old  timestamptz;
  n    integer;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._for_all('retention');
  IF p_days IS NULL OR p_days < 1 OR p_batch IS NULL OR p_batch NOT BETWEEN 1 AND 10000 THEN
    RAISE EXCEPTION 'retention needs at least a day, and batches of 1 to 10000 rows' USING ERRCODE = 'IX004';
  END IF;
  old := clock_timestamp() - make_interval(days => p_days);
  IF p_what = 'mutation_log' THEN
    IF p_days < keep THEN
      PERFORM indexpilot._refuse('retention', format('the administrator keeps the log for %s days, not %s', keep, p_days),
        'indexpilot.policy.keep_log_days');
    END IF;
    RETURN indexpilot._cut_log(p_days, p_batch);
  ELSIF p_what = 'change_stats' THEN
    WITH gone AS (SELECT s.change_id, s.phase FROM indexpilot.change_stats s JOIN indexpilot.changes c ON c.id = s.change_id
                  WHERE s.taken_at < old AND c.state IN ('done', 'failed', 'rolled_back', 'rejected', 'expired', 'withdrawn')
                  ORDER BY s.taken_at LIMIT p_batch)
    DELETE FROM indexpilot.change_stats s USING gone g WHERE s.change_id = g.change_id AND s.phase = g.phase;
  ELSIF p_what = 'query_stats' THEN
    DELETE FROM indexpilot.query_stats q WHERE q.id IN (
      SELECT x.id FROM indexpilot.query_stats x WHERE x.ended_at < old ORDER BY x.ended_at LIMIT p_batch);
  ELSIF p_what = 'index_health' THEN
    DELETE FROM indexpilot.index_health h WHERE h.id IN (
      SELECT x.id FROM indexpilot.index_health x WHERE x.at < old ORDER BY x.at LIMIT p_batch);
  ELSE
    RAISE EXCEPTION 'there is no retention of %', coalesce(quote_literal(p_what), 'NULL') USING ERRCODE = 'IX004';
  END IF;
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n > 0 THEN
    PERFORM indexpilot._log(NULL, NULL, 'pruned', jsonb_build_object('what', p_what, 'rows', n, 'older_than_days', p_days));
  END IF;
  RETURN n;
END
$$;

-- The head of the chain could not be written outside: that stands in the log, where everybody sees it.
CREATE OR REPLACE FUNCTION indexpilot.anchor_failed(p_change bigint, p_seq bigint, p_why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  IF p_change IS NOT NULL THEN
    PERFORM indexpilot._lock_change(p_change);
  END IF;
  PERFORM indexpilot._log(p_change, NULL, 'anchor.failed', jsonb_build_object('seq', p_seq, 'why', left(p_why, 500)));
END
$$;
