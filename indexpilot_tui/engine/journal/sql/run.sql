-- How a change is being carried out now: who holds it, until when, and which backend.
SELECT c.id, c.state, c.epoch, c.attempts, c.rollback, c.system_identifier, c.claimed_by, c.claimed_at, c.claimed_timeline,
       c.lease_until, coalesce(c.lease_until <= pg_catalog.clock_timestamp(), true) AS lease_ended,
       c.backend_pid, c.backend_start, c.abort_reason, c.abort_by, c.decision
FROM indexpilot.changes c
WHERE c.id = %(id)s
