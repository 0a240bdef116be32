-- ------------------------------------------------------------------------------------------------------- emergency bypass
-- In force: by this clock, now. A clock that was set back to before it began ends it as well.
CREATE OR REPLACE FUNCTION indexpilot._in_force(b indexpilot.bypasses) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT b.ended_at IS NULL AND b.granted_at <= clock_timestamp() AND clock_timestamp() < b.until
$$;

CREATE OR REPLACE FUNCTION indexpilot._bypassed(p_what text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM indexpilot.bypasses b WHERE p_what = ANY (b.scope) AND indexpilot._in_force(b))
$$;

-- A claim while a bypass is in force counts as its use, and says so in the log of the change.
CREATE OR REPLACE FUNCTION indexpilot._use_bypass(p_id bigint, p_epoch bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  used jsonb;
BEGIN
  WITH u AS (UPDATE indexpilot.bypasses b SET uses = b.uses + 1 WHERE indexpilot._in_force(b) RETURNING b.*)
  SELECT jsonb_agg(jsonb_build_object('id', u.id, 'scope', u.scope, 'by', u.granted_by, 'until', u.until) ORDER BY u.id)
  INTO used FROM u;
  IF used IS NOT NULL THEN
    PERFORM indexpilot._log(p_id, p_epoch, 'bypass.used', jsonb_build_object('bypasses', used));
  END IF;
END
$$;

-- What one person lifts without a second one ends an hour after it began, however often it is switched on.
CREATE OR REPLACE FUNCTION indexpilot.bypass_on(p_scope text[], p_reason text, p_seconds double precision)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  pol     indexpilot.policy;
  start   timestamptz;
  until   timestamptz;
  latest  timestamptz;
  overdue indexpilot.bypasses;
  wanted  text[];
  new_id  bigint;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._for_all('a bypass');
  PERFORM indexpilot._sentence(p_reason);
  SELECT * INTO STRICT pol FROM indexpilot.policy FOR UPDATE;
  start := clock_timestamp();
  IF btrim(coalesce(p_reason, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'a bypass needs a reason');
  END IF;
  SELECT array_agg(DISTINCT s ORDER BY s) INTO wanted FROM unnest(p_scope) AS s;
  IF wanted IS NULL OR NOT wanted <@ ARRAY['window', 'rate', 'load'] THEN
    PERFORM indexpilot._refuse('bypass', format('a bypass lifts window, rate and load, and nothing else: not %s',
      coalesce((SELECT string_agg(s, ', ') FROM unnest(wanted) AS s WHERE s <> ALL (ARRAY['window', 'rate', 'load'])), 'nothing')));
  END IF;
  IF pol.bypass_max_minutes = 0 THEN
    PERFORM indexpilot._refuse('bypass', 'the administrator allows no bypass here', 'indexpilot.policy.bypass_max_minutes');
  END IF;
  IF p_seconds IS NULL OR NOT p_seconds > 0 OR p_seconds > pol.bypass_max_minutes * 60 THEN
    PERFORM indexpilot._refuse('bypass', format('a bypass lasts more than 0 and at most %s minutes', pol.bypass_max_minutes));
  END IF;
  SELECT * INTO overdue FROM indexpilot.bypasses b
  WHERE b.reviewed_at IS NULL AND b.granted_at < start - interval '24 hours' ORDER BY b.id LIMIT 1;
  IF FOUND THEN
    PERFORM indexpilot._refuse('review', format('bypass %s by %s was not reviewed within 24 hours', overdue.id, overdue.granted_by),
      format('an approver who is somebody else reviews it: indexpilot bypass review %s', overdue.id));
  END IF;
  until := start + make_interval(secs => p_seconds);
  SELECT min(b.granted_at) + make_interval(mins => pol.bypass_max_minutes) INTO latest FROM indexpilot.bypasses b
  WHERE NOT indexpilot._another(b.granted_by_oid, b.granted_by) AND b.reviewed_at IS NULL;
  IF until > latest THEN
    PERFORM indexpilot._refuse('review', format('what %s lifts without a second person ends at %s', session_user,
      to_char(latest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')),
      'an approver who is somebody else reviews it: indexpilot bypass review, or switches on one');
  END IF;
  INSERT INTO indexpilot.bypasses (scope, reason, granted_by, granted_by_oid, granted_at, until)
  VALUES (wanted, p_reason, session_user, indexpilot._me(), start, until) RETURNING id INTO new_id;
  PERFORM indexpilot._log(NULL, NULL, 'bypass.on',
    jsonb_build_object('bypass', new_id, 'scope', wanted, 'reason', p_reason, 'until', until, 'by_oid', indexpilot._me()));
  RETURN new_id;
END
$$;

-- Ends one bypass, or all that are in force. Anybody who may operate or approve can: it is the safe side.
CREATE OR REPLACE FUNCTION indexpilot.bypass_off(p_id bigint, p_reason text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  b     indexpilot.bypasses;
  ended integer := 0;
BEGIN
  PERFORM indexpilot._enter();
  IF btrim(coalesce(p_reason, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'ending a bypass needs a reason');
  END IF;
  PERFORM indexpilot._sentence(p_reason);
  FOR b IN SELECT * FROM indexpilot.bypasses x WHERE (p_id IS NULL OR x.id = p_id) AND indexpilot._in_force(x)
           ORDER BY x.id FOR UPDATE
  LOOP
    UPDATE indexpilot.bypasses x SET ended_by = session_user, ended_at = clock_timestamp(), end_reason = p_reason WHERE x.id = b.id;
    PERFORM indexpilot._log(NULL, NULL, 'bypass.off', jsonb_build_object('bypass', b.id, 'scope', b.scope, 'by', b.granted_by,
      'reason', p_reason, 'would_have_ended', b.until, 'uses', b.uses));
    ended := ended + 1;
  END LOOP;
  IF ended = 0 THEN
    PERFORM indexpilot._refuse('bypass', CASE WHEN p_id IS NULL THEN 'no bypass is in force'
                                              ELSE format('bypass %s is not in force', p_id) END);
  END IF;
  RETURN ended;
END
$$;

-- The second person: before the fact, or after it within 24 hours; later than that no new bypass can be switched on until it is done.
CREATE OR REPLACE FUNCTION indexpilot.review_bypass(p_id bigint, p_note text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  b indexpilot.bypasses;
BEGIN
  PERFORM indexpilot._enter();
  PERFORM indexpilot._for_all('a bypass');
  PERFORM indexpilot._sentence(p_note);
  SELECT * INTO b FROM indexpilot.bypasses WHERE id = p_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no bypass %', p_id USING ERRCODE = 'IX003';
  END IF;
  IF NOT indexpilot._another(b.granted_by_oid, b.granted_by) AND (SELECT self_approval FROM indexpilot.policy) <> 'all' THEN
    PERFORM indexpilot._refuse('self_approval', format('%s switched bypass %s on: a second person reviews it', session_user, p_id));
  END IF;
  IF b.reviewed_at IS NOT NULL THEN
    PERFORM indexpilot._refuse('state', format('bypass %s was reviewed by %s already', p_id, b.reviewed_by));
  END IF;
  IF btrim(coalesce(p_note, '')) = '' THEN
    PERFORM indexpilot._refuse('reason', 'a review needs a sentence: what was done, and was it right');
  END IF;
  UPDATE indexpilot.bypasses SET reviewed_by = session_user, reviewed_by_oid = indexpilot._me(), reviewed_at = clock_timestamp(), review_note = p_note WHERE id = p_id;
  PERFORM indexpilot._log(NULL, NULL, 'bypass.reviewed', jsonb_build_object('bypass', p_id, 'by', b.granted_by, 'note', p_note,
    'late', clock_timestamp() > b.granted_at + interval '24 hours'));
END
$$;
