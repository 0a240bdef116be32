-- ---------------------------------------------------------------------------------------------------------------- roles
DO $roles$
DECLARE
  role_name text;
BEGIN
  IF current_setting('server_version_num')::integer < 130000 THEN
    RAISE EXCEPTION 'IndexPilot needs PostgreSQL 13 or newer';
  END IF;
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION 'the control schema needs a database with encoding UTF8, this one has %',
      current_setting('server_encoding') USING HINT = 'put it into a database of its own and name that in control.dsn';
  END IF;
  FOREACH role_name IN ARRAY ARRAY['indexpilot_owner', 'indexpilot_monitor', 'indexpilot_operator', 'indexpilot_approver']
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
    END IF;
  END LOOP;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'indexpilot_owner' AND (rolcanlogin OR rolsuper)) THEN
    RAISE EXCEPTION 'role indexpilot_owner exists and can log in or is a superuser'
      USING HINT = 'ALTER ROLE indexpilot_owner NOLOGIN NOSUPERUSER';
  END IF;
  GRANT indexpilot_monitor TO indexpilot_operator, indexpilot_approver;
  -- Without being a superuser one must be a member of the owner role to make objects for it; taken back at the end.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    GRANT indexpilot_owner TO CURRENT_USER;
  END IF;
  BEGIN
    GRANT pg_monitor TO indexpilot_monitor;
  EXCEPTION WHEN insufficient_privilege THEN
    IF NOT pg_has_role('indexpilot_monitor', 'pg_monitor', 'MEMBER') THEN
      RAISE WARNING 'pg_monitor could not be granted: without it other sessions and their queries cannot be seen'
        USING HINT = 'as an administrator: GRANT pg_monitor TO indexpilot_monitor';
    END IF;
  END;
END
$roles$;

CREATE SCHEMA IF NOT EXISTS indexpilot AUTHORIZATION indexpilot_owner;

DO $schema$
BEGIN
  IF (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'indexpilot') <> 'indexpilot_owner' THEN
    RAISE EXCEPTION 'a schema indexpilot exists and does not belong to indexpilot_owner: its objects cannot be trusted'
      USING HINT = 'rename that schema, or use another database for the control schema';
  END IF;
END
$schema$;

SET LOCAL ROLE indexpilot_owner;
