-- ------------------------------------------------------------------------------- propose, approve, reject, withdraw, expire
CREATE OR REPLACE FUNCTION indexpilot.propose(p_plan text, p_target text, p_reason text, p_parent bigint, p_rollback boolean)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  plan   jsonb := p_plan::jsonb;
  parent indexpilot.changes;
  before jsonb;
  new_id bigint;
BEGIN
  PERFORM indexpilot._enter();
  IF btrim(coalesce(p_reason, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'a change needs a reason');
  END IF;
  PERFORM indexpilot._sentence(p_reason);
  IF octet_length(p_plan) > 1048576 OR length(p_target) > 300 THEN
    PERFORM indexpilot._refuse('plan', 'the plan is longer than 1 MB, or the target''s name than 300 characters');
  END IF;
  IF coalesce(plan ->> 'kind', '') NOT IN ('create', 'drop', 'reindex') OR coalesce(btrim(plan ->> 'ddl'), '') = ''
     OR coalesce(plan ->> 'system_identifier', '') = '' OR coalesce(plan ->> 'index', '') = '' THEN
    PERFORM indexpilot._refuse('plan', 'the plan lacks its kind, DDL, index or system identifier');
  END IF;
  IF NOT indexpilot._sees_all() AND indexpilot._tenant() IS NULL THEN
    PERFORM indexpilot._refuse('tenant', format('%s acts for no tenant', session_user),
      'the administrator lists the login in indexpilot.tenants, and the session sets app.tenant_id');
  END IF;
  IF p_parent IS NOT NULL THEN
    parent := indexpilot._lock_change(p_parent);
    before := parent.plan::jsonb;
  END IF;
  IF p_rollback THEN
    IF p_parent IS NULL THEN
      PERFORM indexpilot._refuse('rollback', 'a rollback needs the change that it takes back');
    END IF;
    IF parent.state NOT IN ('observing', 'done', 'needs_operator') THEN
      PERFORM indexpilot._refuse('rollback', format('change %s is %s: there is nothing to take back', parent.id, parent.state));
    END IF;
    -- It goes without an approval and a rate slot of its own, so it must be the opposite of its parent and nothing else.
    IF plan ->> 'kind' = parent.kind OR 'reindex' IN (parent.kind, plan ->> 'kind')
       OR (SELECT count(*) FROM unnest(ARRAY['system_identifier', 'database', 'schema', 'table_oid', 'index', 'method', 'unique']) k
           WHERE plan -> k IS DISTINCT FROM before -> k) > 0
       OR (parent.kind = 'create' AND (plan ->> 'index_oid')::bigint IS DISTINCT FROM parent.index_oid) THEN
      PERFORM indexpilot._refuse('rollback', format('this plan is not the opposite of change %s', parent.id));
    END IF;
    IF EXISTS (SELECT FROM indexpilot.changes WHERE parent_id = p_parent AND rollback
               AND state NOT IN ('failed', 'rejected', 'expired', 'withdrawn', 'rolled_back')) THEN
      PERFORM indexpilot._refuse('rollback', format('change %s already has a rollback', parent.id));
    END IF;
  END IF;
  INSERT INTO indexpilot.changes (kind, plan, plan_sha256, system_identifier, target, reason, parent_id, rollback, requested_by,
    requested_by_oid, tenant_id, covered)
  VALUES (plan ->> 'kind', p_plan, indexpilot._sha256(p_plan), plan ->> 'system_identifier', p_target, p_reason, p_parent,
          coalesce(p_rollback, false), session_user, indexpilot._me(), coalesce(parent.tenant_id, indexpilot._tenant()),
          coalesce(p_rollback AND parent.way_back = p_plan, false))
  RETURNING id INTO new_id;
  PERFORM indexpilot._log(new_id, 0, 'proposed', jsonb_build_object(
    'plan_sha256', indexpilot._sha256(p_plan), 'ddl', plan ->> 'ddl', 'target', p_target, 'reason', p_reason,
    'parent_id', p_parent, 'rollback', coalesce(p_rollback, false), 'requested_by_oid', indexpilot._me(),
    'environment', plan -> 'terms' -> 'environment', 'safeguards_sha256', plan -> 'terms' -> 'sha256')
    || CASE WHEN p_rollback THEN jsonb_build_object('covered', coalesce(parent.way_back = p_plan, false)) ELSE '{}' END);
  RETURN new_id;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.approve(p_id bigint, p_sha256 text, p_expires_after interval)
RETURNS timestamptz LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c     indexpilot.changes;
  start timestamptz := clock_timestamp();
  until timestamptz := start + p_expires_after;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_change(p_id);
  IF NOT indexpilot._another(c.requested_by_oid, c.requested_by) AND NOT indexpilot._alone(c.plan) THEN
    PERFORM indexpilot._refuse('self_approval', CASE WHEN c.requested_by = session_user
      THEN format('%s proposed change %s and cannot approve it', session_user, p_id)
      ELSE format('%s is not certainly another person than %s, who proposed change %s', session_user, c.requested_by, p_id) END,
      'another login that has indexpilot_approver approves: another OID and name, and no member of the other');
  END IF;
  IF indexpilot._sha256(c.plan) <> c.plan_sha256 OR p_sha256 IS DISTINCT FROM c.plan_sha256 THEN
    PERFORM indexpilot._refuse('plan_changed', format('the plan of change %s is not the one that was shown for approval', p_id),
      'read it again');
  END IF;
  IF p_expires_after IS NULL OR p_expires_after <= interval '0' OR p_expires_after > interval '168 hours' THEN
    PERFORM indexpilot._refuse('expiry', 'an approval lasts more than 0 and at most 168 hours');
  END IF;
  PERFORM indexpilot._move(c, 'approved', 'approve');
  INSERT INTO indexpilot.approvals (change_id, approver, approver_oid, at, plan_sha256, expires_at)
  VALUES (p_id, session_user, indexpilot._me(), start, c.plan_sha256, until);
  PERFORM indexpilot._log(p_id, c.epoch, 'approved', jsonb_build_object('plan_sha256', c.plan_sha256, 'expires_at', until,
    'approver_oid', indexpilot._me()));
  RETURN until;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.reject(p_id bigint, p_reason text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._sentence(p_reason);
  c := indexpilot._lock_change(p_id);
  IF indexpilot._begun(c) THEN
    PERFORM indexpilot._refuse('state', format('change %s was begun and has left something half done', p_id),
      'abort it: its executor then says what is left to do');
  END IF;
  PERFORM indexpilot._move(c, 'rejected', 'reject');
  UPDATE indexpilot.changes SET outcome = format('rejected by %s: %s', session_user, p_reason) WHERE id = p_id;
  PERFORM indexpilot._log(p_id, c.epoch, 'rejected', jsonb_build_object('reason', p_reason, 'from', c.state));
END
$$;

CREATE OR REPLACE FUNCTION indexpilot.withdraw(p_id bigint, p_reason text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  PERFORM indexpilot._enter();
  c := indexpilot._lock_change(p_id);
  PERFORM indexpilot._sentence(p_reason);
  IF NOT indexpilot._same(c.requested_by_oid, c.requested_by) THEN
    PERFORM indexpilot._refuse('not_requester', format('change %s was proposed by %s, who alone can withdraw it', p_id, c.requested_by),
      'an approver can reject it');
  END IF;
  IF indexpilot._begun(c) THEN
    PERFORM indexpilot._refuse('state', format('change %s was begun and has left something half done', p_id),
      'abort it: its executor then says what is left to do');
  END IF;
  PERFORM indexpilot._move(c, 'withdrawn', 'withdraw');
  UPDATE indexpilot.changes SET outcome = format('withdrawn: %s', p_reason) WHERE id = p_id;
  PERFORM indexpilot._log(p_id, c.epoch, 'withdrawn', jsonb_build_object('reason', p_reason, 'from', c.state));
END
$$;

-- When a change that waits stops being valid: a proposal after a week, an approved one with its approval.
CREATE OR REPLACE FUNCTION indexpilot.valid_until(c indexpilot.changes) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN c.state IN ('proposed', 'approved', 'queued') THEN
    coalesce((SELECT max(a.expires_at) FROM indexpilot.approvals a WHERE a.change_id = c.id), c.requested_at + interval '7 days')
  END
$$;

CREATE OR REPLACE FUNCTION indexpilot.expire() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  c     indexpilot.changes;
  ended integer := 0;
BEGIN
  PERFORM indexpilot._enter();
  FOR c IN SELECT * FROM indexpilot.changes x WHERE x.state IN ('proposed', 'approved', 'queued')
    AND NOT indexpilot._begun(x)
           AND indexpilot.valid_until(x) <= clock_timestamp() ORDER BY x.id FOR UPDATE SKIP LOCKED
  LOOP
    PERFORM indexpilot._move(c, 'expired', 'expire');
    UPDATE indexpilot.changes SET outcome = format('expired at %s while it was %s',
      to_char(indexpilot.valid_until(c) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), c.state) WHERE id = c.id;
    PERFORM indexpilot._log(c.id, c.epoch, 'expired', jsonb_build_object('from', c.state, 'at', indexpilot.valid_until(c)));
    ended := ended + 1;
  END LOOP;
  RETURN ended;
END
$$;
