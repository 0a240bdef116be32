-- Bypasses, newest first, each with whether it is in force by the database's clock, now.
SELECT b.id, b.scope, b.reason, b.granted_by, b.granted_at, b.until, b.reviewed_by, b.reviewed_at, b.review_note, b.ended_by,
       b.ended_at, b.end_reason, b.uses, indexpilot._in_force(b) AS in_force,
       b.granted_at + interval '24 hours' AS review_until,
       b.reviewed_at IS NULL AND b.granted_at + interval '24 hours' < pg_catalog.clock_timestamp() AS overdue
FROM indexpilot.bypasses b
WHERE indexpilot._in_force(b) OR NOT %(in_force)s
ORDER BY b.id DESC
LIMIT %(limit)s
