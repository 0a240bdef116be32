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

-- What proves something beside the log: who lifted what, and how many starts there were. It goes from its beginning, as the log
-- does, and the row of the log that tells of it has the hash of what went: a copy of those rows (an older backup has them as
-- JSON) still proves what they said. What is not over stays, and with it all that is younger: a bypass that is in force or was
-- not reviewed, a slot of a change that has not ended, or one that an administrator's ceiling still counts.
-- Times are hashed as a backup has them, in UTC, whatever the session's time zone is.
CREATE OR REPLACE FUNCTION indexpilot._cut_evidence(p_what text, p_days integer, p_batch integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  old   timestamptz := clock_timestamp() - make_interval(days => p_days);
  young timestamptz := (SELECT clock_timestamp() - make_interval(secs => coalesce(p.per_seconds, 0)) FROM indexpilot.policy p);
  gone  record;
BEGIN
  IF p_what = 'bypasses' THEN
    WITH oldest AS MATERIALIZED (SELECT b AS b, b.id FROM indexpilot.bypasses b ORDER BY b.id LIMIT p_batch),
    last AS (SELECT coalesce(min(o.id) FILTER (WHERE (o.b).granted_at >= old OR (o.b).reviewed_at IS NULL
               OR indexpilot._in_force(o.b)), max(o.id) + 1) AS kept FROM oldest o),
    cut AS (DELETE FROM indexpilot.bypasses b USING last WHERE b.id < last.kept RETURNING b.*)
    SELECT count(*)::integer AS n, min(id) AS first_id, max(id) AS last_id, max(granted_at) AS last_at,
      string_agg(to_jsonb(cut)::text, E'\n' ORDER BY id) AS text INTO gone FROM cut;
  ELSE
    WITH oldest AS MATERIALIZED (SELECT s.* FROM indexpilot.rate_slots s ORDER BY s.id LIMIT p_batch),
    last AS (SELECT coalesce(min(o.id) FILTER (WHERE o.at >= old OR o.at >= young OR EXISTS (
               SELECT FROM indexpilot.changes c WHERE c.id = o.change_id AND c.state NOT IN
                 ('done', 'failed', 'rolled_back', 'rejected', 'expired', 'withdrawn'))), max(o.id) + 1) AS kept FROM oldest o),
    cut AS (DELETE FROM indexpilot.rate_slots s USING last WHERE s.id < last.kept RETURNING s.*)
    SELECT count(*)::integer AS n, min(id) AS first_id, max(id) AS last_id, max(at) AS last_at,
      string_agg(to_jsonb(cut)::text, E'\n' ORDER BY id) AS text INTO gone FROM cut;
  END IF;
  IF gone.n > 0 THEN
    PERFORM indexpilot._log(NULL, NULL, p_what || '.cut', jsonb_build_object('first_id', gone.first_id, 'last_id', gone.last_id,
      'last_at', gone.last_at, 'rows', gone.n, 'sha256', indexpilot._sha256(gone.text), 'older_than_days', p_days));
  END IF;
  RETURN gone.n;
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
  IF keep IS NULL THEN
    PERFORM indexpilot._refuse('retention', 'the row of indexpilot.policy is missing: nobody says how long what is kept',
      'setup-sql makes it anew, with starts allowed and every default: see first what was set before');
  ELSIF p_what IN ('mutation_log', 'bypasses') AND p_days < keep THEN
    PERFORM indexpilot._refuse('retention', format('the administrator keeps the log and the bypasses for %s days, not %s', keep,
      p_days), 'indexpilot.policy.keep_log_days');
  END IF;
  IF p_what = 'mutation_log' THEN
    RETURN indexpilot._cut_log(p_days, p_batch);
  ELSIF p_what IN ('bypasses', 'rate_slots') THEN
    RETURN indexpilot._cut_evidence(p_what, p_days, p_batch);
  ELSIF p_what = 'gate_verdicts' THEN  -- every change of one stands in the log
    WITH gone AS (SELECT v.change_id, v.guard FROM indexpilot.gate_verdicts v JOIN indexpilot.changes c ON c.id = v.change_id
                  WHERE v.evaluated_at < old AND c.state IN ('done', 'failed', 'rolled_back', 'rejected', 'expired', 'withdrawn')
                  ORDER BY v.evaluated_at LIMIT p_batch)
    DELETE FROM indexpilot.gate_verdicts v USING gone g WHERE v.change_id = g.change_id AND v.guard = g.guard;
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
