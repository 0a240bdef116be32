-- ------------------------------------------------------------------------------------------------------------- tenants
-- The tenant for which this session acts, or NULL. app.tenant_id may be missing; what is no number is an error, not a tenant.
CREATE OR REPLACE FUNCTION indexpilot._tenant() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.tenant_id FROM indexpilot.tenants t
  WHERE t.login = session_user AND t.tenant_id = nullif(current_setting('app.tenant_id', true), '')::bigint
$$;

-- Whether this login sees the rows of everybody: always, unless the site has tenants; then members of indexpilot_all_tenants.
CREATE OR REPLACE FUNCTION indexpilot._sees_all() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT NOT p.multi_tenant OR EXISTS (
    SELECT FROM pg_roles r WHERE r.rolname = 'indexpilot_all_tenants' AND pg_has_role(session_user, r.oid, 'MEMBER'))
  FROM indexpilot.policy p
$$;
