-- Changes in execution or observation whose executor let the lease end: what reconcile has to look at.
SELECT c.id FROM indexpilot.changes c
WHERE c.state IN ('starting', 'running', 'cancelling', 'unknown', 'verifying', 'cleaning', 'observing')
  AND (c.lease_until IS NULL OR c.lease_until <= pg_catalog.clock_timestamp())
ORDER BY c.id
