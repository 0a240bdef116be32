-- ------------------------------------------------------------------------------------------------------- carrying it out
CREATE OR REPLACE FUNCTION indexpilot.append(p_id bigint, p_epoch bigint, p_action text, p_detail jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._free_action(p_action, p_detail);
  PERFORM indexpilot._lock_epoch(p_id, p_epoch);
  RETURN indexpilot._log(p_id, p_epoch, p_action, p_detail);
END
$$;

-- One move, guarded by (id, epoch, from_state), and its log row. Keys of the detail that are also columns: outcome, observe_until.
-- A rollback that is done makes its parent rolled_back in the same transaction, and fences the parent's executor.
CREATE OR REPLACE FUNCTION indexpilot.advance(p_id bigint, p_epoch bigint, p_from text, p_to text, p_action text, p_detail jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c      indexpilot.changes;
  parent indexpilot.changes;
  seq    bigint;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._free_action(p_action, p_detail);
  c := indexpilot._lock_epoch(p_id, p_epoch);
  IF c.state IS DISTINCT FROM p_from THEN
    RAISE EXCEPTION 'change % is %, not %: somebody else moved it', p_id, c.state, p_from
      USING ERRCODE = 'IX001', DETAIL = jsonb_build_object('state', c.state, 'epoch', c.epoch)::text;
  END IF;
  IF p_from = 'proposed' AND NOT c.covered THEN
    PERFORM indexpilot._refuse('not_approved', format('change %s is proposed: nobody has approved it', c.id));
  END IF;
  PERFORM indexpilot._move(c, p_to, 'advance');
  UPDATE indexpilot.changes SET outcome = coalesce(p_detail ->> 'outcome', outcome),
    observe_until = coalesce((p_detail ->> 'observe_until')::timestamptz, observe_until) WHERE id = p_id;
  seq := indexpilot._log(p_id, p_epoch, p_action,
    coalesce(p_detail, '{}') || jsonb_build_object('from', p_from, 'to', p_to));
  IF c.rollback AND p_to = 'done' THEN
    parent := indexpilot._lock_change(c.parent_id);
    PERFORM indexpilot._move(parent, 'rolled_back', 'rollback');
    UPDATE indexpilot.changes x SET epoch = x.epoch + 1, outcome = format('taken back by change %s', p_id) WHERE x.id = parent.id;
    PERFORM indexpilot._log(parent.id, parent.epoch + 1, 'rolled_back', jsonb_build_object('from', parent.state, 'by_change', p_id));
  END IF;
  RETURN seq;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.set_backend(p_id bigint, p_epoch bigint, p_pid integer, p_start timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._lock_epoch(p_id, p_epoch);
  UPDATE indexpilot.changes SET backend_pid = p_pid, backend_start = p_start WHERE id = p_id;
  PERFORM indexpilot._log(p_id, p_epoch, 'backend', jsonb_build_object('pid', p_pid, 'backend_start', p_start));
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.set_index(p_id bigint, p_epoch bigint, p_oid bigint, p_valid boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_epoch(p_id, p_epoch);
  IF (c.index_oid, c.index_valid) IS DISTINCT FROM (p_oid, p_valid) THEN
    UPDATE indexpilot.changes SET index_oid = p_oid, index_valid = p_valid WHERE id = p_id;
    PERFORM indexpilot._log(p_id, p_epoch, 'index', jsonb_build_object('oid', p_oid, 'valid', p_valid));
  END IF;
END
$$;

-- The plan that takes a change back, as its executor read it from the catalog at the time of the deed. A rollback that is this,
-- byte by byte, is covered by the approval of the change; one that is anything else needs its own. Before the deed where that
-- removes something, else once what was made is verified; never later.
CREATE OR REPLACE FUNCTION indexpilot.keep_way_back(p_id bigint, p_epoch bigint, p_plan text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_epoch(p_id, p_epoch);
  IF c.state <> (CASE c.kind WHEN 'create' THEN 'verifying' ELSE 'starting' END) OR c.rollback THEN
    PERFORM indexpilot._refuse('state', format('change %s is %s: its way back is kept at another time', c.id, c.state));
  END IF;
  UPDATE indexpilot.changes SET way_back = p_plan WHERE id = p_id;
  PERFORM indexpilot._log(p_id, p_epoch, 'way_back', jsonb_build_object('plan_sha256', c.plan_sha256,
    'sha256', indexpilot._sha256(p_plan), 'ddl', p_plan::jsonb -> 'ddl', 'restore', p_plan::jsonb -> 'saved' -> 'restore'));
END
$$;

-- How far one step of a change on a partitioned table has come.
CREATE OR REPLACE FUNCTION indexpilot.set_part(p_id bigint, p_epoch bigint, p_position integer, p_state text, p_oid bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._lock_epoch(p_id, p_epoch);
  INSERT INTO indexpilot.change_parts AS x (change_id, position, state, index_oid) VALUES (p_id, p_position, p_state, p_oid)
  ON CONFLICT (change_id, position) DO UPDATE SET state = excluded.state, index_oid = excluded.index_oid, since = excluded.since;
  PERFORM indexpilot._log(p_id, p_epoch, 'part', jsonb_build_object('position', p_position, 'state', p_state, 'oid', p_oid));
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.request_abort(p_id bigint, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_change(p_id);
  PERFORM indexpilot._sentence(p_reason);
  IF c.state NOT IN ('queued', 'starting', 'running', 'cancelling', 'unknown', 'verifying', 'cleaning') THEN
    PERFORM indexpilot._refuse('state', format('change %s is %s: there is nothing to stop', c.id, c.state));
  END IF;
  IF c.abort_reason IS NULL THEN
    UPDATE indexpilot.changes SET abort_reason = coalesce(nullif(btrim(p_reason), ''), 'no reason given'), abort_by = session_user,
      abort_at = clock_timestamp() WHERE id = p_id;
    PERFORM indexpilot._log(p_id, c.epoch, 'abort.requested', jsonb_build_object('reason', p_reason, 'state', c.state));
  END IF;
END
$$;

-- The last answers of the gates. `since` is when a status last changed; a log row is written only when one did.
CREATE OR REPLACE FUNCTION indexpilot.record_gates(p_id bigint, p_verdicts jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c       indexpilot.changes;
  changed jsonb;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_change(p_id);
  SELECT jsonb_agg(v - 'setting' - 'since' ORDER BY n) INTO changed
  FROM jsonb_array_elements(p_verdicts) WITH ORDINALITY AS e (v, n)
  LEFT JOIN indexpilot.gate_verdicts g ON g.change_id = p_id AND g.guard = v ->> 'guard'
  WHERE g.status IS DISTINCT FROM v ->> 'status';
  DELETE FROM indexpilot.gate_verdicts g WHERE g.change_id = p_id
    AND g.guard NOT IN (SELECT v ->> 'guard' FROM jsonb_array_elements(p_verdicts) AS e (v));
  INSERT INTO indexpilot.gate_verdicts AS g
  SELECT p_id, v ->> 'guard', n, v ->> 'status', v ->> 'measured', v ->> 'limit', v ->> 'setting', v ->> 'evidence',
         clock_timestamp(), (v ->> 'retry_at')::timestamptz, clock_timestamp()
  FROM jsonb_array_elements(p_verdicts) WITH ORDINALITY AS e (v, n)
  ON CONFLICT (change_id, guard) DO UPDATE SET position = excluded.position, measured = excluded.measured,
    limit_text = excluded.limit_text, setting = excluded.setting, evidence = excluded.evidence, retry_at = excluded.retry_at,
    evaluated_at = excluded.evaluated_at, status = excluded.status,
    since = CASE WHEN g.status = excluded.status THEN g.since ELSE excluded.since END;
  IF changed IS NOT NULL THEN
    PERFORM indexpilot._log(p_id, c.epoch, 'gates', jsonb_build_object('changed', changed));
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.save_stats(p_id bigint, p_epoch bigint, p_phase text, p_taken_at timestamptz,
  p_stats_reset timestamptz, p_rows jsonb, p_context jsonb)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_epoch(p_id, p_epoch);  -- who was taken over replaces nothing
  INSERT INTO indexpilot.change_stats (change_id, phase, taken_at, stats_reset, rows, context)
  VALUES (p_id, p_phase, p_taken_at, p_stats_reset, p_rows::text, p_context::text)
  ON CONFLICT (change_id, phase) DO UPDATE SET taken_at = excluded.taken_at, stats_reset = excluded.stats_reset,
    rows = excluded.rows, context = excluded.context;
  PERFORM indexpilot._log(p_id, c.epoch, 'stats', jsonb_build_object('phase', p_phase, 'taken_at', p_taken_at,
    'queries', jsonb_array_length(p_rows), 'sha256', indexpilot._sha256(p_rows::text), 'context', p_context));
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.save_verification(p_id bigint, p_epoch bigint, p_verification jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._lock_epoch(p_id, p_epoch);
  UPDATE indexpilot.changes SET verification = p_verification::text WHERE id = p_id;
  PERFORM indexpilot._log(p_id, p_epoch, 'verification', jsonb_build_object('verdict', p_verification -> 'verdict',
    'reason', p_verification -> 'reason', 'sha256', indexpilot._sha256(p_verification::text)));
END
$$;
