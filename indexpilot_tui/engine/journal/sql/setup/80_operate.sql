-- ---------------------------------------------------------------------------------------- kill switch, and what needs a person
CREATE OR REPLACE FUNCTION indexpilot._switch(p_stop boolean, p_reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._sentence(p_reason);
  IF NOT p_stop THEN
    PERFORM indexpilot._for_all('the kill switch');  -- throwing it is the safe side, and open to all
  END IF;
  IF btrim(coalesce(p_reason, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'the kill switch needs a reason');
  END IF;
  UPDATE indexpilot.policy SET starts_stopped = p_stop, stopped_reason = CASE WHEN p_stop THEN p_reason END,
    stopped_by = CASE WHEN p_stop THEN session_user END, stopped_at = CASE WHEN p_stop THEN clock_timestamp() END;
  PERFORM indexpilot._log(NULL, NULL, CASE WHEN p_stop THEN 'starts.stopped' ELSE 'starts.allowed' END,
    jsonb_build_object('reason', p_reason));
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.stop_starts(p_reason text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
  SELECT indexpilot._switch(true, p_reason)
$$;

CREATE OR REPLACE FUNCTION indexpilot.allow_starts(p_reason text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
  SELECT indexpilot._switch(false, p_reason)
$$;

-- A contradiction is settled by an approver who neither proposed nor ran the change. The lease is left expired and the epoch
-- raised, so that the next reconcile continues from the state that was chosen. `finish` and `repair` put the change back into
-- the queue, to be carried on as decided; the decision is the second person's approval of that.
CREATE OR REPLACE FUNCTION indexpilot.resolve(p_id bigint, p_to text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c        indexpilot.changes;
  decided  text := CASE WHEN p_to IN ('finish', 'repair') THEN p_to END;
  to_state text := CASE WHEN p_to IN ('finish', 'repair') THEN 'queued' ELSE p_to END;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._sentence(p_reason);
  c := indexpilot._lock_change(p_id);
  IF NOT (indexpilot._another(c.requested_by_oid, c.requested_by)
          AND (c.claimed_by IS NULL OR indexpilot._another(c.claimed_by_oid, c.claimed_by))) AND (SELECT self_approval FROM indexpilot.policy) <> 'all' THEN
    PERFORM indexpilot._refuse('self_approval', format('%s proposed or ran change %s: a second person settles it', session_user, p_id));
  END IF;
  IF btrim(coalesce(p_reason, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'settling a change needs a reason');
  END IF;
  IF (to_state = 'queued') <> (decided IS NOT NULL) THEN
    PERFORM indexpilot._refuse('decision', 'say finish or repair');
  END IF;
  IF decided = 'repair' AND c.kind <> 'drop' THEN
    PERFORM indexpilot._refuse('decision', format('change %s is a %s: only a half-dropped index is repaired', p_id, c.kind),
      'finish it, or clean up what is left of it');
  END IF;
  IF to_state = 'cleaning' AND c.kind = 'drop' THEN
    -- what is cleaned up after a drop is the index itself: it would end as failed, with its index gone
    PERFORM indexpilot._refuse('decision', format('change %s is a drop: what is left of it is finished or repaired', p_id),
      'say finish or repair');
  END IF;
  PERFORM indexpilot._move(c, to_state, 'resolve');
  UPDATE indexpilot.changes x SET epoch = x.epoch + 1, lease_until = clock_timestamp(), decision = decided,
    abort_reason = NULL, abort_by = NULL, abort_at = NULL,
    outcome = format('settled by %s: %s', session_user, p_reason) WHERE x.id = p_id;
  IF decided IS NOT NULL THEN
    INSERT INTO indexpilot.approvals AS a (change_id, approver, approver_oid, at, plan_sha256, expires_at)
    VALUES (p_id, session_user, indexpilot._me(), clock_timestamp(), c.plan_sha256, clock_timestamp() + interval '24 hours')
    ON CONFLICT (change_id, approver) DO UPDATE SET at = excluded.at, approver_oid = excluded.approver_oid, plan_sha256 = excluded.plan_sha256, expires_at = excluded.expires_at;
  END IF;
  PERFORM indexpilot._log(p_id, c.epoch + 1, 'resolved', jsonb_build_object('to', to_state, 'decision', decided, 'reason', p_reason));
END
$$;
