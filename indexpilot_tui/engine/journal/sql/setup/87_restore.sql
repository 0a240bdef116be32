-- ------------------------------------------------------------------------------------------------- restored from a backup
-- Three calls of one transaction, for a superuser or a member of indexpilot_owner; granted to nobody. What a file must be before
-- it gets here is checked by `indexpilot restore`.
CREATE OR REPLACE FUNCTION indexpilot._restore_tables() RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY['policy', 'tenants', 'changes', 'approvals', 'rate_slots', 'change_parts', 'bypasses', 'gate_verdicts',
    'change_stats', 'query_stats', 'index_health', 'recordings', 'mutation_log', 'chain_head']
$$;

-- Holds every writer, and refuses a control schema that is in use: nothing is ever replaced.
CREATE OR REPLACE FUNCTION indexpilot._restore_begin(p_multi_tenant boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  relation text;
  used     boolean;
BEGIN
  PERFORM indexpilot._enter();
  FOREACH relation IN ARRAY indexpilot._restore_tables() LOOP
    EXECUTE format('LOCK TABLE indexpilot.%I IN EXCLUSIVE MODE', relation);
  END LOOP;
  FOREACH relation IN ARRAY indexpilot._restore_tables() LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM indexpilot.%I %s)', relation, CASE relation
      WHEN 'policy' THEN 'WHERE starts_stopped' WHEN 'chain_head' THEN 'WHERE seq > 0' ELSE '' END) INTO used;
    IF used THEN
      PERFORM indexpilot._refuse('restore', format('this control schema is in use: %s is not empty', relation),
        'restore into a database where `indexpilot setup-sql` was just run, and nothing else');
    END IF;
  END LOOP;
  IF (SELECT multi_tenant FROM indexpilot.policy) <> p_multi_tenant THEN
    PERFORM indexpilot._refuse('restore', CASE WHEN p_multi_tenant
      THEN 'the backup is of a control schema with tenants, and this one has no row-level security'
      ELSE 'the backup is of a control schema without tenants, and this one has row-level security' END,
      CASE WHEN p_multi_tenant THEN 'run `indexpilot setup-sql --multi-tenant` here first'
      ELSE 'restore into a database where `indexpilot setup-sql` was run without --multi-tenant' END);
  END IF;
  DELETE FROM indexpilot.policy;
  DELETE FROM indexpilot.chain_head;
END
$$;

CREATE OR REPLACE FUNCTION indexpilot._restore_rows(p_table text, p_rows jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  n integer;
BEGIN
  IF p_table <> ALL (indexpilot._restore_tables()) THEN
    RAISE EXCEPTION 'there is no table % to restore', quote_literal(p_table) USING ERRCODE = 'IX004';
  END IF;
  IF EXISTS (
    SELECT FROM jsonb_array_elements(p_rows) AS r
    WHERE (SELECT array_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(r) AS k) IS DISTINCT FROM
      (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_attribute a
       WHERE a.attrelid = format('indexpilot.%I', p_table)::regclass AND a.attnum > 0 AND NOT a.attisdropped)) THEN
    PERFORM indexpilot._refuse('restore', format('a row of %s in the backup has other columns than the table here', p_table),
      'run `indexpilot setup-sql` of the program that wrote the backup');
  END IF;
  EXECUTE format('INSERT INTO indexpilot.%1$I OVERRIDING SYSTEM VALUE '
                 'SELECT * FROM jsonb_populate_recordset(NULL::indexpilot.%1$I, $1)', p_table) USING p_rows;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END
$$;

-- What happened after the backup is not in it, so nothing goes on by itself: no change starts until an approver allows it, an
-- approval that may have been used since is void, and a bypass that may have been ended since is over. The log goes on, as a chain
-- of a new name: heads that were kept outside after the backup are of a log that is lost.
CREATE OR REPLACE FUNCTION indexpilot._restore_end(p_detail jsonb) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  was      indexpilot.chain_head := (SELECT h FROM indexpilot.chain_head h);
  relation text;
  b        indexpilot.bypasses;
  c        indexpilot.changes;
  why      text := 'restored from a backup';
BEGIN
  PERFORM indexpilot._enter();
  FOREACH relation IN ARRAY ARRAY['changes', 'rate_slots', 'bypasses', 'query_stats', 'index_health'] LOOP
    EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, ''id''), max(id)) FROM indexpilot.%I HAVING max(id) IS NOT NULL',
      'indexpilot.' || relation, relation);
  END LOOP;
  -- OIDs of another cluster are of other people here: a person stays one only where OID and name still belong together
  UPDATE indexpilot.changes x SET requested_by_oid = indexpilot._still(x.requested_by_oid, x.requested_by),
    claimed_by_oid = indexpilot._still(x.claimed_by_oid, x.claimed_by), covered = false;
  UPDATE indexpilot.approvals x SET approver_oid = indexpilot._still(x.approver_oid, x.approver);
  UPDATE indexpilot.bypasses x SET granted_by_oid = indexpilot._still(x.granted_by_oid, x.granted_by),
    reviewed_by_oid = indexpilot._still(x.reviewed_by_oid, x.reviewed_by);
  UPDATE indexpilot.chain_head SET chain_id = gen_random_uuid();
  PERFORM indexpilot._log(NULL, NULL, 'restored', p_detail || jsonb_build_object('chain_before', was.chain_id,
    'seq_before', was.seq, 'hash_before', was.hash));
  PERFORM indexpilot._switch(true, why || ': look at the changes first, then allow starts');
  FOR b IN SELECT * FROM indexpilot.bypasses x WHERE x.ended_at IS NULL AND x.until > clock_timestamp() ORDER BY x.id LOOP
    UPDATE indexpilot.bypasses x SET ended_by = session_user, ended_at = clock_timestamp(), end_reason = why WHERE x.id = b.id;
    PERFORM indexpilot._log(NULL, NULL, 'bypass.off', jsonb_build_object('bypass', b.id, 'scope', b.scope, 'by', b.granted_by,
      'reason', why, 'would_have_ended', b.until, 'uses', b.uses));
  END LOOP;
  FOR c IN SELECT * FROM indexpilot.changes x WHERE NOT indexpilot._begun(x)
           AND (x.state IN ('approved', 'queued') OR x.state = 'proposed' AND x.rollback) ORDER BY x.id LOOP
    PERFORM indexpilot._move(c, 'expired', 'expire');
    UPDATE indexpilot.changes x SET outcome = format('expired while it was %s: %s, and what it was approved for may be done', c.state,
      why) WHERE x.id = c.id;
    PERFORM indexpilot._log(c.id, c.epoch, 'expired', jsonb_build_object('from', c.state, 'why', why));
  END LOOP;
  RETURN (SELECT h.chain_id::text FROM indexpilot.chain_head h);
END
$$;
