-- Whether the journal can be written now, asked before a change begins: what a start writes to is locked as the start would
-- lock it, for as long as this takes.
CREATE OR REPLACE FUNCTION indexpilot.check_writable() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
BEGIN
  PERFORM indexpilot._enter();
  LOCK TABLE indexpilot.changes, indexpilot.gate_verdicts, indexpilot.rate_slots, indexpilot.mutation_log IN ROW EXCLUSIVE MODE;
  PERFORM FROM indexpilot.chain_head FOR UPDATE;
END
$$;

-- ------------------------------------------------------------------------------------------------------- what was seen
-- Takes the window for this console, or says no: somebody else recorded (a part of) it. A window that ends far after now would
-- keep every other console from recording until then, so it is refused; a day is more than any two clocks are apart.
CREATE OR REPLACE FUNCTION indexpilot._record(p_what text, p_system_identifier text, p_database text, p_from timestamptz, p_to timestamptz)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_from IS NULL OR p_to IS NULL OR p_from >= p_to OR p_to > clock_timestamp() + interval '1 day' THEN
    RAISE EXCEPTION 'what was seen from % to % cannot be recorded: a window ends after it begins, and not in the future',
      coalesce(p_from::text, 'NULL'), coalesce(p_to::text, 'NULL') USING ERRCODE = 'IX004';
  END IF;
  INSERT INTO indexpilot.recordings AS r (what, system_identifier, database, tenant_id, until)
  VALUES (p_what, p_system_identifier, p_database, coalesce(indexpilot._tenant(), 0), p_to)
  ON CONFLICT (what, system_identifier, database, tenant_id) DO UPDATE SET until = excluded.until WHERE r.until <= p_from;
  RETURN FOUND;
END
$$;

-- At most 100 statements a window. Returns how many were kept; 0 when another console has recorded this time.
CREATE OR REPLACE FUNCTION indexpilot.record_query_stats(p_system_identifier text, p_database text, p_from timestamptz,
  p_to timestamptz, p_rows jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  n integer;
BEGIN
  PERFORM indexpilot._enter();
  IF NOT indexpilot._record('query_stats', p_system_identifier, p_database, p_from, p_to) THEN
    RETURN 0;
  END IF;
  INSERT INTO indexpilot.query_stats (tenant_id, system_identifier, database, began_at, ended_at, queryid, user_name, query, calls,
    total_ms, rows, wal_bytes, recorded_by)
  SELECT indexpilot._tenant(), p_system_identifier, p_database, p_from, p_to, (v ->> 'queryid')::bigint, left(v ->> 'user', 64),
    left(v ->> 'query', 1000), (v ->> 'calls')::float8, (v ->> 'total_ms')::float8, (v ->> 'rows')::float8,
    (v ->> 'wal_bytes')::float8, session_user
  FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS e (v, i) WHERE i <= 100;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END
$$;

-- At most 500 findings a reading. Returns how many were kept; 0 when another console has recorded since p_from.
CREATE OR REPLACE FUNCTION indexpilot.record_index_health(p_system_identifier text, p_database text, p_from timestamptz,
  p_at timestamptz, p_rows jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  n integer;
BEGIN
  PERFORM indexpilot._enter();
  IF NOT indexpilot._record('index_health', p_system_identifier, p_database, p_from, p_at) THEN
    RETURN 0;
  END IF;
  INSERT INTO indexpilot.index_health (tenant_id, system_identifier, database, at, kind, severity, index_oid, index_name, table_name,
    size_bytes, scans, evidence, recorded_by)
  SELECT indexpilot._tenant(), p_system_identifier, p_database, p_at, left(v ->> 'kind', 64), left(v ->> 'severity', 64),
    (v ->> 'index_oid')::bigint, left(v ->> 'index', 300), left(v ->> 'table', 300), (v ->> 'size_bytes')::bigint,
    (v ->> 'scans')::bigint, left(v ->> 'evidence', 1000), session_user
  FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS e (v, i) WHERE i <= 500;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END
$$;
