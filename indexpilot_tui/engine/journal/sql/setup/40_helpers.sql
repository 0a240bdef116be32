-- -------------------------------------------------------------------------------------------------------------- helpers
-- SQLSTATEs of our own: IX001 stale epoch or state, IX002 refused (DETAIL is JSON with "code"), IX003 no such change,
-- IX004 wrong use.
CREATE OR REPLACE FUNCTION indexpilot._enter() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Under REPEATABLE READ a count after a lock still sees the snapshot from before it, and two claims both win.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the journal works in READ COMMITTED transactions only, this one is %',
      current_setting('transaction_isolation') USING ERRCODE = 'IX004';
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot._refuse(p_code text, p_message text, p_hint text DEFAULT '', p_retry_at timestamptz DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'IX002', MESSAGE = p_message, HINT = p_hint,
    DETAIL = jsonb_build_object('code', p_code, 'retry_at', p_retry_at)::text;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot._sha256(p_text text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT encode(sha256(convert_to(p_text, 'UTF8')), 'hex')
$$;

CREATE OR REPLACE FUNCTION indexpilot._lock_change(p_id bigint) RETURNS indexpilot.changes
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  c indexpilot.changes;
BEGIN
  SELECT * INTO c FROM indexpilot.changes WHERE id = p_id
    AND (indexpilot._sees_all() OR tenant_id = indexpilot._tenant()) FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no change %', p_id USING ERRCODE = 'IX003';
  END IF;
  RETURN c;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot._lock_epoch(p_id bigint, p_epoch bigint) RETURNS indexpilot.changes
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  c indexpilot.changes := indexpilot._lock_change(p_id);
BEGIN
  IF c.epoch IS DISTINCT FROM p_epoch THEN
    RAISE EXCEPTION 'change % is at epoch %, not %: another executor has taken it over', p_id, c.epoch, p_epoch
      USING ERRCODE = 'IX001', DETAIL = jsonb_build_object('state', c.state, 'epoch', c.epoch)::text;
  END IF;
  RETURN c;
END
$$;

-- What a rollback's approval by its parent needs: the parent's latest valid approval, not older than a day.
CREATE OR REPLACE FUNCTION indexpilot._cover(p_parent bigint) RETURNS indexpilot.approvals
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT a FROM indexpilot.approvals a JOIN indexpilot.changes p ON p.id = a.change_id
  WHERE p.id = p_parent AND a.plan_sha256 = indexpilot._sha256(p.plan) AND a.at > clock_timestamp() - interval '24 hours'
  ORDER BY a.at DESC LIMIT 1
$$;

CREATE OR REPLACE FUNCTION indexpilot._move(c indexpilot.changes, p_to text, p_by text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM indexpilot.transitions t
                 WHERE t.from_state = c.state AND t.to_state = p_to AND t.made_by = p_by) THEN
    PERFORM indexpilot._refuse('state', format('change %s is %s: it cannot become %s', c.id, c.state, p_to));
  END IF;
  UPDATE indexpilot.changes SET state = p_to, state_since = clock_timestamp() WHERE id = c.id;
END
$$;

-- Whether a change that waits in the queue has left something half done: its executor ends it, or a person does.
CREATE OR REPLACE FUNCTION indexpilot._begun(c indexpilot.changes) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.state = 'queued' AND (c.decision IS NOT NULL OR (c.attempts > 0 AND (c.kind = 'drop'
    OR EXISTS (SELECT FROM indexpilot.change_parts p WHERE p.change_id = c.id AND p.state <> 'cleaned'))))
$$;

-- What an executor and a console say of a change, beside what the functions here write themselves. Anything else is refused, so
-- nobody writes a text of his own invention between the rows of others, or one that reads like a decision.
CREATE OR REPLACE FUNCTION indexpilot._free_action(p_action text, p_detail jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_action IS NULL OR p_action <> ALL (ARRAY['phase', 'rival', 'copy', 'lost', 'leftover', 'requeued', 'verified', 'observed',
      'failed', 'repaired', 'needs_operator', 'give_up', 'verify.intent', 'ddl.intent', 'ddl.outcome', 'part.intent', 'part.outcome',
      'clean.intent', 'clean.outcome', 'cleaned', 'cancel.intent', 'cancel.sent', 'cancel.failed', 'terminate.intent',
      'terminate.sent', 'terminate.failed', 'backend.gone', 'answer.lost', 'hung.up', 'pressure', 'gates.again', 'auto_revert',
      'plans', 'duplicates', 'stats.missing', 'analyze.intent', 'analyze.outcome', 'restore.intent', 'restore.outcome', 'catalog',
      'waiting', 'apply.refused', 'kept', 'rehearsed']) THEN
    RAISE EXCEPTION 'the log action % is reserved or not one of an executor', coalesce(quote_literal(p_action), 'NULL')
      USING ERRCODE = 'IX004';
  END IF;
  IF jsonb_typeof(coalesce(p_detail, '{}')) <> 'object' OR octet_length(p_detail::text) > 262144 THEN
    RAISE EXCEPTION 'the detail of % is no object, or longer than 256 kB', p_action USING ERRCODE = 'IX004';
  END IF;
END
$$;

-- A reason is a sentence or a few; whom it is for reads it in a list.
CREATE OR REPLACE FUNCTION indexpilot._sentence(p_reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF length(p_reason) > 2000 THEN
    PERFORM indexpilot._refuse('reason', 'a reason has at most 2000 characters');
  END IF;
END
$$;

-- Two people always, unless the administrator opted out of everything: DROP, and UNIQUE.
CREATE OR REPLACE FUNCTION indexpilot._strict(p_plan text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE p ->> 'kind'
    WHEN 'drop' THEN true      -- that it is not used is the word of who proposed it
    WHEN 'reindex' THEN false  -- the index stays what it was
    ELSE coalesce((p ->> 'unique')::boolean, true) OR coalesce(p ->> 'ddl', 'unique') ~* '\munique\M'
  END FROM (SELECT p_plan::jsonb AS p) AS parsed
$$;

-- Whether the administrator lets one person be both sides of this plan.
CREATE OR REPLACE FUNCTION indexpilot._alone(p_plan text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.self_approval = 'all' OR p.self_approval = 'ordinary' AND NOT indexpilot._strict(p_plan) FROM indexpilot.policy p
$$;

-- What concerns every tenant is for those who see all of them.
CREATE OR REPLACE FUNCTION indexpilot._for_all(p_what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT indexpilot._sees_all() THEN
    PERFORM indexpilot._refuse('tenant', format('%s concerns every tenant, and %s acts for one', p_what, session_user),
      'a member of indexpilot_all_tenants can');
  END IF;
END
$$;
