-- --------------------------------------------------------------------------------------------------------------- grants
-- Made again below, by another owner, whose grants are not ours to revoke; the owner of a schema may drop what is in it.
DROP FUNCTION IF EXISTS indexpilot.column_statistics(name[], name[]);
REVOKE ALL ON ALL TABLES IN SCHEMA indexpilot FROM PUBLIC, indexpilot_monitor, indexpilot_operator, indexpilot_approver;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indexpilot FROM PUBLIC, indexpilot_monitor, indexpilot_operator, indexpilot_approver;
REVOKE ALL ON SCHEMA indexpilot FROM PUBLIC;
GRANT USAGE ON SCHEMA indexpilot TO indexpilot_monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA indexpilot TO indexpilot_monitor;
GRANT EXECUTE ON FUNCTION
  indexpilot.valid_until(indexpilot.changes), indexpilot.rate_status(integer, double precision),
  indexpilot._tenant(), indexpilot._sees_all(), indexpilot._in_force(indexpilot.bypasses), indexpilot._alone(text), indexpilot._strict(text),
  indexpilot._distinct(bigint, text, bigint, text), indexpilot._member(bigint, bigint) TO indexpilot_monitor;
GRANT EXECUTE ON FUNCTION
  indexpilot.propose(text, text, text, bigint, boolean), indexpilot.withdraw(bigint, text),
  indexpilot.claim(bigint, text, bigint, integer, double precision, double precision),
  indexpilot.renew(bigint, bigint, double precision), indexpilot.takeover(bigint, double precision),
  indexpilot.append(bigint, bigint, text, jsonb), indexpilot.advance(bigint, bigint, text, text, text, jsonb),
  indexpilot.set_backend(bigint, bigint, integer, timestamptz), indexpilot.set_index(bigint, bigint, bigint, boolean),
  indexpilot.set_part(bigint, bigint, integer, text, bigint), indexpilot.keep_way_back(bigint, bigint, text),
  indexpilot.record_gates(bigint, jsonb), indexpilot.save_verification(bigint, bigint, jsonb),
  indexpilot.save_stats(bigint, bigint, text, timestamptz, timestamptz, jsonb, jsonb),
  indexpilot.record_query_stats(text, text, timestamptz, timestamptz, jsonb),
  indexpilot.record_index_health(text, text, timestamptz, timestamptz, jsonb),
  indexpilot.prune(text, integer, integer), indexpilot.check_writable() TO indexpilot_operator;
GRANT EXECUTE ON FUNCTION
  indexpilot.approve(bigint, text, interval), indexpilot.reject(bigint, text), indexpilot.allow_starts(text),
  indexpilot.resolve(bigint, text, text), indexpilot.review_bypass(bigint, text) TO indexpilot_approver;
GRANT EXECUTE ON FUNCTION
  indexpilot.expire(), indexpilot.request_abort(bigint, text), indexpilot.stop_starts(text),
  indexpilot.bypass_on(text[], text, double precision), indexpilot.bypass_off(bigint, text),
  indexpilot.anchor_failed(bigint, bigint, text)
  TO indexpilot_operator, indexpilot_approver;
DO $installer$
BEGIN
  -- who runs this script says whose statistics are told; session_user, since this is done as the owner
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
    RETURN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA indexpilot TO %1$I;'
    'GRANT EXECUTE ON FUNCTION indexpilot.enrol_statistics(text, text), indexpilot.withdraw_statistics(text, text) TO %1$I', session_user);
END
$installer$;
