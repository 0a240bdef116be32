-- --------------------------------------------------------------------------------------------------------------- persons
-- A person is a login by its OID; the name that it had at the time stands beside it. Somebody is another person only where
-- both differ and neither is a member of the other (by whatever option: who may grant a role to himself may become it), so a
-- login that was renamed, dropped and made again, or inherited is not another one, and not the same one either. Rows without
-- an OID are of before version 2 or from a backup: nobody is another person than theirs.
CREATE OR REPLACE FUNCTION indexpilot._me() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.oid::bigint FROM pg_roles r WHERE r.rolname = session_user
$$;

CREATE OR REPLACE FUNCTION indexpilot._member(p_member bigint, p_of bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- pg_has_role would say yes for every superuser
  WITH RECURSIVE up (oid) AS (
    SELECT p_member UNION SELECT m.roleid::bigint FROM pg_auth_members m JOIN up ON m.member = up.oid::oid)
  SELECT EXISTS (SELECT FROM up WHERE up.oid = p_of)
$$;

CREATE OR REPLACE FUNCTION indexpilot._distinct(p_oid bigint, p_name text, p_other_oid bigint, p_other_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(p_oid <> p_other_oid AND p_name <> p_other_name
    AND NOT indexpilot._member(p_oid, p_other_oid) AND NOT indexpilot._member(p_other_oid, p_oid), false)
$$;

-- Whether this session is of another person.
CREATE OR REPLACE FUNCTION indexpilot._another(p_oid bigint, p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT indexpilot._distinct(indexpilot._me(), session_user::text, p_oid, p_name)
$$;

-- Whether this session is of this very person, under the name of then.
CREATE OR REPLACE FUNCTION indexpilot._same(p_oid bigint, p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(indexpilot._me() = p_oid AND session_user = p_name, false)
$$;

CREATE OR REPLACE FUNCTION indexpilot._still(p_oid bigint, p_name text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.oid::bigint FROM pg_roles r WHERE r.oid::bigint = p_oid AND r.rolname = p_name
$$;
