-- ------------------------------------------------------------------------------------------------ row-level security
-- A login acts for the tenants that indexpilot.tenants lists for it, one at a time: the one that its session names.
--   INSERT INTO indexpilot.tenants (login, tenant_id) VALUES ('alice', 7);      ALTER ROLE alice SET app.tenant_id = '7';
-- or control.tenant_id in the configuration. A session that names none, or one that is not listed, sees no row of any tenant.
-- Who looks after all of them, verifies the log, prunes it and answers for emergencies:  GRANT indexpilot_all_tenants TO carol;
DO $all$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'indexpilot_all_tenants') THEN
    CREATE ROLE indexpilot_all_tenants NOLOGIN;
  END IF;
END
$all$;
SET LOCAL ROLE indexpilot_owner;
UPDATE indexpilot.policy SET multi_tenant = true WHERE NOT multi_tenant;
DO $policies$
DECLARE
  relation text;
  mine     text := '(SELECT indexpilot._sees_all()) OR tenant_id = (SELECT indexpilot._tenant())';
  by_login text := '(SELECT indexpilot._sees_all()) OR login = session_user';
  of_mine  text := 'EXISTS (SELECT FROM indexpilot.changes c WHERE c.id = change_id)';  -- itself under its policy
BEGIN
  FOREACH relation IN ARRAY ARRAY['changes', 'mutation_log', 'query_stats', 'index_health', 'tenants', 'recordings', 'approvals',
                                  'rate_slots', 'change_parts', 'gate_verdicts', 'change_stats']
  LOOP
    EXECUTE format('ALTER TABLE indexpilot.%I ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE indexpilot.%I FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format('DROP POLICY IF EXISTS functions ON indexpilot.%I', relation);
    EXECUTE format('DROP POLICY IF EXISTS tenant ON indexpilot.%I', relation);
    -- FORCE holds the owner as well; the functions of this schema, which run as the owner, look after tenants themselves
    EXECUTE format('CREATE POLICY functions ON indexpilot.%I TO indexpilot_owner USING (true) WITH CHECK (true)', relation);
    EXECUTE format('CREATE POLICY tenant ON indexpilot.%I FOR SELECT TO indexpilot_monitor USING (%s)', relation, CASE
      WHEN relation IN ('changes', 'mutation_log', 'query_stats', 'index_health', 'recordings') THEN mine
      WHEN relation = 'tenants' THEN by_login ELSE of_mine END);
  END LOOP;
END
$policies$;
RESET ROLE;
