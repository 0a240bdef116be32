-- -------------------------------------------------------------------------------------------------- claim, lease, takeover
-- Slots of all consoles in a sliding window: how many are spent, and when one is free again (NULL: now).
CREATE OR REPLACE FUNCTION indexpilot.rate_status(p_max integer, p_window_s double precision, OUT used integer, OUT free_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT (SELECT count(*)::integer FROM indexpilot.rate_slots WHERE at > clock_timestamp() - make_interval(secs => p_window_s)),
         -- the p_max-th youngest slot: when it leaves the window, one is free
         (SELECT at + make_interval(secs => p_window_s) FROM indexpilot.rate_slots
          WHERE at > clock_timestamp() - make_interval(secs => p_window_s)
          ORDER BY at DESC OFFSET greatest(p_max, 1) - 1 LIMIT 1)
$$;

CREATE OR REPLACE FUNCTION indexpilot._spend_slot(c indexpilot.changes, pol indexpilot.policy, p_max integer, p_window_s double precision)
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lim record;
  st  record;
BEGIN
  IF p_max IS NULL OR p_max < 0 OR p_window_s IS NULL OR p_window_s <= 0 THEN
    RAISE EXCEPTION 'a rate limit needs a number of starts and a window' USING ERRCODE = 'IX004';
  END IF;
  IF EXISTS (SELECT FROM indexpilot.rate_slots WHERE change_id = c.id AND at > clock_timestamp() - make_interval(secs => p_window_s)) THEN
    RETURN (indexpilot.rate_status(p_max, p_window_s)).used;
  END IF;
  FOR lim IN SELECT p_max AS n, p_window_s AS s
             UNION ALL SELECT pol.max_starts, pol.per_seconds WHERE pol.max_starts IS NOT NULL
  LOOP
    SELECT * INTO st FROM indexpilot.rate_status(lim.n, lim.s);
    IF st.used >= lim.n AND NOT indexpilot._bypassed('rate') THEN
      PERFORM indexpilot._refuse('rate_limit',
        format('%s of %s starts in %s s are spent', st.used, lim.n, lim.s)
        || CASE WHEN lim.n > 0 THEN format(', the next is free at %s',
             to_char(st.free_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')) ELSE '' END,
        '', CASE WHEN lim.n > 0 THEN st.free_at END);
    END IF;
  END LOOP;
  INSERT INTO indexpilot.rate_slots (change_id, claimed_by) VALUES (c.id, session_user);
  RETURN (indexpilot.rate_status(p_max, p_window_s)).used;
END
$$;

-- The approval that covers the change now, or a refusal that says why there is none.
CREATE OR REPLACE FUNCTION indexpilot._valid_approval(c indexpilot.changes) RETURNS indexpilot.approvals
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  a         indexpilot.approvals;
  requester text := c.requested_by;
  by_oid    bigint := c.requested_by_oid;
  approved  text := c.plan;
BEGIN
  SELECT * INTO a FROM indexpilot.approvals x WHERE x.change_id = c.id ORDER BY x.at DESC LIMIT 1;
  IF NOT FOUND AND c.rollback THEN
    IF NOT c.covered THEN
      PERFORM indexpilot._refuse('not_approved',
        format('change %s is not the way back that was kept when change %s was carried out', c.id, c.parent_id),
        'have it approved by another login, as a change of its own');
    END IF;
    a := indexpilot._cover(c.parent_id);
    IF a.change_id IS NULL THEN
      PERFORM indexpilot._refuse('not_approved',
        format('change %s takes back change %s, whose approval is older than a day or void', c.id, c.parent_id),
        'have the rollback approved by another login');
    END IF;
    SELECT p.requested_by, p.requested_by_oid, p.plan INTO STRICT requester, by_oid, approved FROM indexpilot.changes p WHERE p.id = c.parent_id;
  ELSIF NOT FOUND THEN
    PERFORM indexpilot._refuse('not_approved', format('change %s is %s: nobody has approved it', c.id, c.state),
      'another login that has indexpilot_approver approves');
  ELSIF a.plan_sha256 <> indexpilot._sha256(c.plan) THEN
    PERFORM indexpilot._refuse('plan_changed', format('the plan of change %s changed after it was approved', c.id),
      'propose it again and have it approved again');
  ELSIF a.expires_at <= clock_timestamp() THEN
    PERFORM indexpilot._refuse('approval_expired', format('the approval of change %s ended at %s', c.id,
      to_char(a.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')), 'propose it again');
  END IF;
  IF NOT indexpilot._distinct(a.approver_oid, a.approver, by_oid, requester) AND NOT indexpilot._alone(approved) THEN
    PERFORM indexpilot._refuse('self_approval', CASE WHEN a.approver = requester
      THEN format('change %s was approved by the login that proposed it', c.id)
      ELSE format('%s, who approved change %s, is not certainly another person than %s, who proposed it', a.approver, c.id,
        requester) END);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid::bigint = a.approver_oid AND r.rolname = a.approver
                 AND pg_has_role(r.oid, 'indexpilot_approver', 'USAGE')) THEN
    PERFORM indexpilot._refuse('approver_revoked', format('%s, who approved change %s, is not an approver any more', a.approver, a.change_id),
      'propose it again and have it approved by an approver');
  END IF;
  RETURN a;
END
$$;

-- Takes a change into execution: one winner, one active change in a cluster, one rate slot, a new epoch and a lease.
CREATE OR REPLACE FUNCTION indexpilot.claim(
  p_id bigint, p_system_identifier text, p_timeline bigint, p_rate_max integer, p_rate_window_s double precision,
  p_lease_s double precision, OUT epoch bigint, OUT plan text, OUT slot integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  pol    indexpilot.policy;
  c      indexpilot.changes;
  a      indexpilot.approvals;
  active indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  -- The claim lock, in a statement of its own: what follows sees everything that earlier claims committed.
  SELECT * INTO STRICT pol FROM indexpilot.policy FOR UPDATE;
  c := indexpilot._lock_change(p_id);
  IF pol.starts_stopped THEN
    PERFORM indexpilot._refuse('kill_switch', format('%s stopped all starts: %s', pol.stopped_by, pol.stopped_reason),
      'an approver allows starts again');
  END IF;
  IF c.state = 'expired' THEN
    PERFORM indexpilot._refuse('approval_expired', format('change %s %s', c.id, c.outcome), 'propose it again');
  ELSIF c.state = 'proposed' AND NOT c.covered THEN
    PERFORM indexpilot._refuse('not_approved', CASE WHEN c.rollback
      THEN format('change %s is not the way back that was kept when change %s was carried out', c.id, c.parent_id)
      ELSE format('change %s is proposed: nobody has approved it', c.id) END,
      'another login that has indexpilot_approver approves');
  ELSIF c.state NOT IN ('proposed', 'approved', 'queued') THEN
    PERFORM indexpilot._refuse('state', format('change %s is %s and cannot be started', c.id, c.state));
  END IF;
  IF c.abort_reason IS NOT NULL THEN
    PERFORM indexpilot._refuse('aborted', format('%s stopped change %s: %s', c.abort_by, c.id, c.abort_reason));
  END IF;
  IF indexpilot._sha256(c.plan) <> c.plan_sha256 THEN
    PERFORM indexpilot._refuse('plan_changed', format('the plan of change %s changed after it was proposed', c.id),
      'propose it again and have it approved again');
  END IF;
  IF p_system_identifier IS DISTINCT FROM c.plan::jsonb ->> 'system_identifier' THEN
    PERFORM indexpilot._refuse('other_server', format('change %s is for the cluster %s, this is %s', c.id,
      c.plan::jsonb ->> 'system_identifier', p_system_identifier));
  END IF;
  a := indexpilot._valid_approval(c);
  SELECT * INTO active FROM indexpilot.changes x WHERE x.system_identifier = p_system_identifier AND x.id <> p_id
    AND x.state IN ('starting', 'running', 'cancelling', 'unknown', 'verifying', 'cleaning') ORDER BY x.id LIMIT 1;
  IF FOUND THEN
    PERFORM indexpilot._refuse('busy', CASE WHEN indexpilot._sees_all() OR active.tenant_id = indexpilot._tenant()
      THEN format('change %s is %s in this cluster, started by %s: one at a time', active.id, active.state, active.claimed_by)
      ELSE 'a change of another tenant is at work in this cluster: one at a time' END);
  END IF;
  IF NOT c.rollback AND c.decision IS NULL THEN  -- what was begun is finished without another slot
    slot := indexpilot._spend_slot(c, pol, p_rate_max, p_rate_window_s);
  END IF;
  PERFORM indexpilot._move(c, 'starting', 'claim');
  UPDATE indexpilot.changes x SET epoch = x.epoch + 1, attempts = x.attempts + 1, claimed_by = session_user, claimed_by_oid = indexpilot._me(),
    claimed_at = clock_timestamp(), claimed_timeline = p_timeline, lease_until = clock_timestamp() + indexpilot._lease(p_lease_s),
    backend_pid = NULL, backend_start = NULL, index_valid = NULL, outcome = '',
    index_oid = CASE WHEN x.kind IN ('drop', 'reindex') THEN (x.plan::jsonb ->> 'index_oid')::bigint END
  WHERE x.id = p_id RETURNING x.epoch, x.plan INTO epoch, plan;
  PERFORM indexpilot._log(p_id, epoch, 'claimed', jsonb_build_object('from', c.state, 'slot', slot, 'rate_max', p_rate_max,
    'attempt', c.attempts + 1, 'system_identifier', p_system_identifier, 'timeline', p_timeline, 'lease_s', p_lease_s,
    'plan_sha256', c.plan_sha256, 'decision', c.decision, 'approver', a.approver, 'approver_oid', a.approver_oid, 'approved_change', a.change_id,
    'environment', c.plan::jsonb -> 'terms' -> 'environment', 'safeguards_sha256', c.plan::jsonb -> 'terms' -> 'sha256'));
  PERFORM indexpilot._use_bypass(p_id, epoch);
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.renew(p_id bigint, p_epoch bigint, p_lease_s double precision) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  UPDATE indexpilot.changes x SET lease_until = clock_timestamp() + indexpilot._lease(p_lease_s)
  WHERE x.id = p_id AND x.epoch = p_epoch AND (indexpilot._sees_all() OR x.tenant_id = indexpilot._tenant()) AND x.state IN
    ('queued', 'starting', 'running', 'cancelling', 'unknown', 'verifying', 'cleaning', 'observing');
  RETURN FOUND;
END
$$;

-- NULL while somebody holds the lease, or when there is nothing to take over.
CREATE OR REPLACE FUNCTION indexpilot.takeover(p_id bigint, p_lease_s double precision) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_change(p_id);
  IF c.state NOT IN ('starting', 'running', 'cancelling', 'unknown', 'verifying', 'cleaning', 'observing')
     OR c.lease_until > clock_timestamp() THEN
    RETURN NULL;
  END IF;
  UPDATE indexpilot.changes x SET epoch = x.epoch + 1, claimed_by = session_user, claimed_by_oid = indexpilot._me(),
    lease_until = clock_timestamp() + indexpilot._lease(p_lease_s) WHERE x.id = p_id;
  PERFORM indexpilot._log(p_id, c.epoch + 1, 'takeover',
    jsonb_build_object('from', c.claimed_by, 'state', c.state, 'lease_ended', c.lease_until));
  RETURN c.epoch + 1;
END
$$;
