-- IndexPilot control schema, version 2. PostgreSQL 13 to 18. Review it, then run it once in the database that `control.dsn`
-- names (or in the target's own database): psql -v ON_ERROR_STOP=1 -f this-file. Running it again is harmless.
-- It needs a superuser, or a role with CREATEROLE and CREATE on the database.
--
-- What it makes:
--   roles      indexpilot_owner (NOLOGIN, owns everything here; grant it to nobody) and three groups without login:
--              indexpilot_monitor  reads: pg_monitor, and SELECT on the tables of this schema
--              indexpilot_operator monitor, and: propose, withdraw, claim, carry out, abort, stop all starts, bypass
--              indexpilot_approver monitor, and: approve, reject, settle what needs a person, release the kill switch,
--                                  bypass, and review the bypass of somebody else
--              and indexpilot_statistics (NOLOGIN; grant it to nobody), the owner of the one function that reads statistics
--   statistics column_statistics() gives members of indexpilot_monitor what pg_stats would, of enrolled tables that they may not
--              read but have some privilege on: SELECT indexpilot.enrol_statistics('app', '*'), or indexpilot statistics enrol
--   tables     nobody but indexpilot_owner may write them; every write goes through the SECURITY DEFINER functions below.
--              The actor is always session_user (SET ROLE does not change it), the clock is this database's.
--   log        mutation_log is append-only and hash-chained: an edited, removed or reordered row is found by
--              `indexpilot audit verify`. A superuser can rewrite the whole chain: keep its head somewhere else, too
--              (control.anchor in the configuration). Rows older than policy.keep_log_days may be removed by retention, with a
--              cut that the chain itself proves.
--
-- Afterwards, logins (each person has one; never share one, the approval rule compares logins):
--   GRANT indexpilot_operator TO alice;          GRANT indexpilot_approver TO bob;       GRANT indexpilot_monitor TO carol;
-- The logins must inherit (the default): the control session never uses SET ROLE.
-- CREATE INDEX and DROP INDEX need the table's owner; no GRANT on the table gives that. For each operator, once per owner role:
--   PostgreSQL 13 to 15:  GRANT shop_owner TO alice;
--   PostgreSQL 16 on:     GRANT shop_owner TO alice WITH INHERIT FALSE, SET TRUE;
-- and CREATE on the table's schema for that owner role.
--
-- A limit that no console's configuration can exceed, for all starts together (NULL: each console's own limit alone):
--   UPDATE indexpilot.policy SET max_starts = 5, per_seconds = 3600;
-- Everything needs two people: who proposed a change does not approve it. A site with a single operator opts out; every row of
-- the log then shows it ('ordinary' keeps two for DROP, for UNIQUE and for reviewing a bypass):
--   UPDATE indexpilot.policy SET self_approval = 'ordinary';                            -- or 'all'; 'never' is the default
-- An emergency bypass lifts the maintenance window, the rate limit and the load gates for at most an hour; forbid it with
--   UPDATE indexpilot.policy SET bypass_max_minutes = 0;
-- Stop all starts at once: SELECT indexpilot.stop_starts('reason');   and again: SELECT indexpilot.allow_starts('reason');

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
