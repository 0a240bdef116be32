-- --------------------------------------------------------------------------------------------------------------- tables
CREATE TABLE IF NOT EXISTS indexpilot.schema_version (
  version      integer PRIMARY KEY,
  installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

DO $version$
DECLARE
  newest integer := (SELECT max(version) FROM indexpilot.schema_version);
BEGIN
  IF newest > 2 THEN
    RAISE EXCEPTION 'the control schema here has version %, this script is for version 2', newest
      USING HINT = 'run setup-sql of the newer program';
  END IF;
END
$version$;
INSERT INTO indexpilot.schema_version (version) VALUES (2) ON CONFLICT DO NOTHING;

-- One row: the kill switch, what only an administrator sets (there is no function that does), and the lock that serialises
-- claims.
CREATE TABLE IF NOT EXISTS indexpilot.policy (
  only_row           boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  starts_stopped     boolean NOT NULL DEFAULT false,
  stopped_reason     text,
  stopped_by         text,
  stopped_at         timestamptz,
  max_starts         integer CHECK (max_starts >= 0),        -- a ceiling on starts, whatever the consoles' configurations say
  per_seconds        integer CHECK (per_seconds > 0),
  -- Who may approve what they proposed themselves: nobody (two people for everything), or for sites with a single operator
  -- 'ordinary' (not DROP, not UNIQUE) or 'all'. Every row of the log shows it.
  self_approval      text NOT NULL DEFAULT 'never' CHECK (self_approval IN ('never', 'ordinary', 'all')),
  bypass_max_minutes integer NOT NULL DEFAULT 60 CHECK (bypass_max_minutes BETWEEN 0 AND 60),  -- 0: no bypass here
  multi_tenant       boolean NOT NULL DEFAULT false,         -- set by `setup-sql --multi-tenant`, together with its policies
  keep_log_days      integer NOT NULL DEFAULT 365 CHECK (keep_log_days >= 1),  -- no retention removes younger rows of the log
  CHECK ((max_starts IS NULL) = (per_seconds IS NULL))
);
INSERT INTO indexpilot.policy DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Which logins may act for which tenant. app.tenant_id says for which of them a session does; without a row here it says
-- nothing, so nobody becomes another tenant by SET.
CREATE TABLE IF NOT EXISTS indexpilot.tenants (
  login     text NOT NULL,
  tenant_id bigint NOT NULL,
  PRIMARY KEY (login, tenant_id)
);

-- Every legal move, and the function that may make it.
CREATE TABLE IF NOT EXISTS indexpilot.transitions (
  from_state text NOT NULL,
  to_state   text NOT NULL,
  made_by    text NOT NULL,
  PRIMARY KEY (from_state, to_state, made_by)
);
INSERT INTO indexpilot.transitions (from_state, to_state, made_by)
SELECT f, move.to_state, move.made_by
FROM (VALUES
  ('proposed',                                         'approved',       'approve'),
  ('proposed approved queued',                         'rejected',       'reject'),
  ('proposed approved queued',                         'withdrawn',      'withdraw'),
  ('proposed approved queued',                         'expired',        'expire'),
  -- from proposed: only a rollback, which the approval of its parent covers
  ('proposed approved queued',                         'starting',       'claim'),
  ('proposed approved',                                'queued',         'advance'),
  ('starting running cancelling unknown cleaning',     'queued',         'advance'),
  ('starting unknown',                                 'running',        'advance'),
  ('starting running unknown',                         'cancelling',     'advance'),
  ('running cancelling unknown cleaning',              'verifying',      'advance'),
  ('running cancelling unknown verifying',             'cleaning',       'advance'),
  ('starting running cancelling verifying cleaning observing', 'unknown', 'advance'),
  ('verifying',                                        'observing',      'advance'),
  ('verifying observing',                              'done',           'advance'),
  ('queued starting running cancelling unknown verifying cleaning', 'failed', 'advance'),
  ('queued starting running cancelling unknown verifying cleaning observing', 'needs_operator', 'advance'),
  -- by its rollback's end, in whatever state that finds it
  ('observing done needs_operator unknown verifying cleaning', 'rolled_back', 'rollback'),
  -- what is left of a change on a partitioned table that was stopped while it waited
  ('queued',                                           'cleaning',       'advance'),
  -- carried on as a second person decided: finish or repair
  ('needs_operator',                                   'queued',         'resolve'),
  ('needs_operator',                                   'verifying',      'resolve'),
  ('needs_operator',                                   'cleaning',       'resolve'),
  ('needs_operator',                                   'failed',         'resolve'),
  ('needs_operator',                                   'done',           'resolve')
) AS move (from_states, to_state, made_by), unnest(string_to_array(move.from_states, ' ')) AS f
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS indexpilot.changes (
  id                        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  state                     text NOT NULL DEFAULT 'proposed' CHECK (state IN (
                              'proposed', 'approved', 'queued', 'starting', 'running', 'cancelling', 'unknown', 'verifying',
                              'cleaning', 'observing', 'done', 'failed', 'rolled_back', 'rejected', 'expired', 'withdrawn',
                              'needs_operator')),
  state_since               timestamptz NOT NULL DEFAULT clock_timestamp(),
  epoch                     bigint NOT NULL DEFAULT 0,       -- the fencing number: one more with every claim and takeover
  kind                      text NOT NULL CHECK (kind IN ('create', 'drop', 'reindex')),
  plan                      text NOT NULL,                   -- canonical JSON text; what plan_sha256 is the hash of
  plan_sha256               text NOT NULL,
  system_identifier         text NOT NULL,                   -- of the cluster that the plan is for
  target                    text NOT NULL,
  reason                    text NOT NULL,
  parent_id                 bigint REFERENCES indexpilot.changes (id),
  rollback                  boolean NOT NULL DEFAULT false CHECK (NOT rollback OR parent_id IS NOT NULL),
  requested_by              text NOT NULL,
  requested_at              timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts                  integer NOT NULL DEFAULT 0,
  claimed_by                text,
  claimed_at                timestamptz,
  claimed_timeline          bigint,
  lease_until               timestamptz,
  backend_pid               integer,
  backend_start             timestamptz,
  index_oid                 bigint,
  index_valid               boolean,
  abort_reason              text,
  abort_by                  text,
  abort_at                  timestamptz,
  decision                  text CHECK (decision IN ('finish', 'repair')),  -- how a second person settled what needed one
  outcome                   text NOT NULL DEFAULT '',
  verification              text,                            -- JSON
  observe_until             timestamptz,
  tenant_id                 bigint
);
-- version 2: persons by OID (see _another), and the way back as the executor kept it
ALTER TABLE indexpilot.changes ADD COLUMN IF NOT EXISTS requested_by_oid bigint, ADD COLUMN IF NOT EXISTS claimed_by_oid bigint,
  ADD COLUMN IF NOT EXISTS way_back text, ADD COLUMN IF NOT EXISTS covered boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS changes_state_idx ON indexpilot.changes (state);

CREATE TABLE IF NOT EXISTS indexpilot.approvals (
  change_id   bigint NOT NULL REFERENCES indexpilot.changes (id),
  approver    text NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  plan_sha256 text NOT NULL,
  expires_at  timestamptz NOT NULL,
  PRIMARY KEY (change_id, approver)
);

ALTER TABLE indexpilot.approvals ADD COLUMN IF NOT EXISTS approver_oid bigint;

-- A slot is spent at the claim, also by a build that fails; a change that is queued again keeps the slot it has.
CREATE TABLE IF NOT EXISTS indexpilot.rate_slots (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  change_id  bigint NOT NULL REFERENCES indexpilot.changes (id),
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  claimed_by text NOT NULL
);
CREATE INDEX IF NOT EXISTS rate_slots_at_idx ON indexpilot.rate_slots (at);

-- What a change on a partitioned table consists of, as far as it was begun: one row a step of its plan.
CREATE TABLE IF NOT EXISTS indexpilot.change_parts (
  change_id bigint NOT NULL REFERENCES indexpilot.changes (id),
  position  integer NOT NULL,                                -- of the step in the plan
  state     text NOT NULL CHECK (state IN ('begun', 'done', 'cleaned')),
  index_oid bigint,                                          -- of the index that the step made; NULL: not seen yet
  since     timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (change_id, position)
);

-- An emergency lifts the window, the rate limit and the load gates, for an hour at most. Whether it still does is asked of
-- this row at each read: nothing has to run for it to end, and nothing can keep it going.
CREATE TABLE IF NOT EXISTS indexpilot.bypasses (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope       text[] NOT NULL CHECK (cardinality(scope) > 0 AND scope <@ ARRAY['window', 'rate', 'load']),
  reason      text NOT NULL CHECK (btrim(reason) <> ''),
  granted_by  text NOT NULL,
  granted_at  timestamptz NOT NULL,
  until       timestamptz NOT NULL CHECK (until > granted_at AND until <= granted_at + interval '60 minutes'),
  reviewed_by text,                                          -- the second person, before or within 24 hours
  reviewed_at timestamptz,
  review_note text,
  ended_by    text,
  ended_at    timestamptz,
  end_reason  text,
  uses        integer NOT NULL DEFAULT 0                     -- claims while it was in force
);

ALTER TABLE indexpilot.bypasses ADD COLUMN IF NOT EXISTS granted_by_oid bigint, ADD COLUMN IF NOT EXISTS reviewed_by_oid bigint;

CREATE TABLE IF NOT EXISTS indexpilot.gate_verdicts (
  change_id    bigint NOT NULL REFERENCES indexpilot.changes (id),
  guard        text NOT NULL,
  position     integer NOT NULL,
  status       text NOT NULL CHECK (status IN ('pass', 'wait', 'block', 'unknown')),
  measured     text NOT NULL,
  limit_text   text NOT NULL,
  setting      text NOT NULL,
  evidence     text NOT NULL,
  since        timestamptz NOT NULL,
  retry_at     timestamptz,
  evaluated_at timestamptz NOT NULL,
  PRIMARY KEY (change_id, guard)
);

CREATE TABLE IF NOT EXISTS indexpilot.change_stats (
  change_id   bigint NOT NULL REFERENCES indexpilot.changes (id),
  phase       text NOT NULL CHECK (phase IN ('proposed', 'start', 'end', 'observed')),
  taken_at    timestamptz NOT NULL,
  stats_reset timestamptz,
  rows        text NOT NULL,                                 -- JSON list
  context     text NOT NULL DEFAULT '{}',                    -- JSON: counters of the table, fingerprints of plans
  PRIMARY KEY (change_id, phase)
);

-- What consoles that operate have seen, one row a statement and window. The text is the server's normalised one, without
-- literals; of statements that it does not normalise there is none.
CREATE TABLE IF NOT EXISTS indexpilot.query_stats (
  id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id         bigint,
  system_identifier text NOT NULL,
  database          text NOT NULL,
  began_at          timestamptz NOT NULL,
  ended_at          timestamptz NOT NULL CHECK (ended_at > began_at),
  queryid           bigint NOT NULL,
  user_name         text NOT NULL,
  query             text,
  calls             double precision NOT NULL,
  total_ms          double precision NOT NULL,
  rows              double precision NOT NULL,
  wal_bytes         double precision NOT NULL,
  recorded_by       text NOT NULL
);
CREATE INDEX IF NOT EXISTS query_stats_ended_idx ON indexpilot.query_stats (ended_at);

-- What the health pane found, one row a finding and reading.
CREATE TABLE IF NOT EXISTS indexpilot.index_health (
  id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id         bigint,
  system_identifier text NOT NULL,
  database          text NOT NULL,
  at                timestamptz NOT NULL,
  kind              text NOT NULL,
  severity          text NOT NULL,
  index_oid         bigint NOT NULL,                         -- 0: there is none, and should be
  index_name        text NOT NULL,
  table_name        text NOT NULL,
  size_bytes        bigint,
  scans             bigint,
  evidence          text NOT NULL,
  recorded_by       text NOT NULL
);
CREATE INDEX IF NOT EXISTS index_health_at_idx ON indexpilot.index_health (at);

-- Up to when somebody has recorded what of which database: of several consoles one writes.
CREATE TABLE IF NOT EXISTS indexpilot.recordings (
  what              text NOT NULL CHECK (what IN ('query_stats', 'index_health')),
  system_identifier text NOT NULL,
  database          text NOT NULL,
  tenant_id         bigint NOT NULL,                         -- 0: of none
  until             timestamptz NOT NULL,
  PRIMARY KEY (what, system_identifier, database, tenant_id)
);
