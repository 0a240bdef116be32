DO $done$
BEGIN
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    REVOKE indexpilot_owner FROM CURRENT_USER;
  END IF;
END
$done$;
COMMIT;
