-- ------------------------------------------------------------------------------------------------------------------ log
CREATE TABLE IF NOT EXISTS indexpilot.mutation_log (
  seq         bigint PRIMARY KEY,                            -- without gaps: given under the lock on chain_head
  at          timestamptz NOT NULL,
  change_id   bigint,
  epoch       bigint,
  actor       text NOT NULL,                                 -- session_user
  client_addr text,                                          -- as this server sees it; NULL: unix socket
  claimed     text,                                          -- operating system user, host, program: as the client says
  action      text NOT NULL,
  detail      text NOT NULL,                                 -- JSON
  tenant_id   bigint,
  prev_hash   text NOT NULL,
  hash        text NOT NULL
);
CREATE INDEX IF NOT EXISTS mutation_log_change_idx ON indexpilot.mutation_log (change_id, seq);

-- One row: the end of the chain. A log that was cut at its end no longer meets it. chain_id tells this log from another one
-- that may stand in its place one day; it is what anchors outside are filed under.
CREATE TABLE IF NOT EXISTS indexpilot.chain_head (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  chain_id uuid NOT NULL DEFAULT gen_random_uuid(),
  seq      bigint NOT NULL DEFAULT 0,
  hash     text NOT NULL DEFAULT repeat('0', 64)
);
INSERT INTO indexpilot.chain_head DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION indexpilot._append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- _cut_log() alone sets this, for its own transaction; without being the owner it opens nothing: nobody else may delete
  IF TG_OP = 'DELETE' AND current_user = 'indexpilot_owner' AND current_setting('indexpilot.cut', true) = 'on' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% on indexpilot.mutation_log is refused: the log is append-only', TG_OP USING ERRCODE = 'IX004';
END
$$;
DROP TRIGGER IF EXISTS append_only ON indexpilot.mutation_log;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON indexpilot.mutation_log
  FOR EACH STATEMENT EXECUTE FUNCTION indexpilot._append_only();

-- One field of the hashed text, as a netstring: bytes, colon, value, comma; NULL is "-,". No two rows give one text.
CREATE OR REPLACE FUNCTION indexpilot._field(p_value text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(octet_length(convert_to(p_value, 'UTF8')) || ':' || p_value || ',', '-,')
$$;

-- hash = hex(sha256(utf8(prev_hash || field(seq) || field(at) || ... || field(detail) || field(tenant_id)))), at in UTC with microseconds.
CREATE OR REPLACE FUNCTION indexpilot._hash(r indexpilot.mutation_log) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT encode(sha256(convert_to(
    r.prev_hash || indexpilot._field(r.seq::text)
    || indexpilot._field(to_char(r.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    || indexpilot._field(r.change_id::text) || indexpilot._field(r.epoch::text) || indexpilot._field(r.actor)
    || indexpilot._field(r.client_addr) || indexpilot._field(r.claimed) || indexpilot._field(r.action)
    || indexpilot._field(r.detail) || indexpilot._field(r.tenant_id::text), 'UTF8')), 'hex')
$$;

-- Appends one row. The lock on chain_head serialises writers and, unlike an advisory lock, nobody without rights here can hold it.
CREATE OR REPLACE FUNCTION indexpilot._log(p_change bigint, p_epoch bigint, p_action text, p_detail jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  head  indexpilot.chain_head;
  r     indexpilot.mutation_log;
  alone text;
BEGIN
  SELECT * INTO STRICT head FROM indexpilot.chain_head FOR UPDATE;
  r.seq := head.seq + 1;
  r.at := clock_timestamp();
  r.change_id := p_change;
  r.epoch := p_epoch;
  r.actor := session_user;
  r.client_addr := host(inet_client_addr());
  r.claimed := left(nullif(current_setting('indexpilot.claimed', true), ''), 500);
  r.action := p_action;
  SELECT p.self_approval INTO alone FROM indexpilot.policy p;
  r.detail := (coalesce(p_detail, '{}') || CASE WHEN alone = 'never' THEN jsonb '{}'
                                                ELSE jsonb_build_object('self_approval', alone) END)::text;
  r.tenant_id := coalesce((SELECT c.tenant_id FROM indexpilot.changes c WHERE c.id = p_change), indexpilot._tenant());
  r.prev_hash := head.hash;
  r.hash := indexpilot._hash(r);
  INSERT INTO indexpilot.mutation_log SELECT r.*;
  UPDATE indexpilot.chain_head SET seq = r.seq, hash = r.hash;
  RETURN r.seq;
END
$$;

-- What an administrator changes in the policy row stands in the log like everything else. (The kill switch logs itself.)
CREATE OR REPLACE FUNCTION indexpilot._policy_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  was    jsonb := to_jsonb(OLD) - ARRAY['starts_stopped', 'stopped_reason', 'stopped_by', 'stopped_at'];
  is_now jsonb := to_jsonb(NEW) - ARRAY['starts_stopped', 'stopped_reason', 'stopped_by', 'stopped_at'];
BEGIN
  IF is_now = was || jsonb '{"multi_tenant": true}' AND (SELECT h.seq FROM indexpilot.chain_head h) = 0 THEN
    RETURN NULL;  -- `setup-sql --multi-tenant`, run for the first time: nothing was ever in force without it
  END IF;
  IF was <> is_now THEN
    PERFORM indexpilot._log(NULL, NULL, 'policy.changed', jsonb_build_object(
      'from', (SELECT jsonb_object_agg(k, v) FROM jsonb_each(was) AS e (k, v) WHERE is_now -> k <> v),
      'to', (SELECT jsonb_object_agg(k, v) FROM jsonb_each(is_now) AS e (k, v) WHERE was -> k <> v)));
  END IF;
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS changed ON indexpilot.policy;
CREATE TRIGGER changed AFTER UPDATE ON indexpilot.policy FOR EACH ROW EXECUTE FUNCTION indexpilot._policy_changed();
