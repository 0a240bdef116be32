-- Changes, newest first. A change whose time is over reads as expired, also before anybody with the right to write says so.
SELECT s.*,
       coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(a) || pg_catalog.jsonb_build_object('another',
                   indexpilot._distinct(a.approver_oid, a.approver, s.requested_by_oid, s.requested_by)) ORDER BY a.at)
                 FROM indexpilot.approvals a WHERE a.change_id = s.id), '[]') AS approvals,
       coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(g) ORDER BY g.position)
                 FROM indexpilot.gate_verdicts g WHERE g.change_id = s.id), '[]') AS verdicts,
       coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(e) ORDER BY e.seq)
                 FROM (SELECT l.seq, l.at, l.actor, l.action, l.detail FROM indexpilot.mutation_log l
                       WHERE l.change_id = s.id ORDER BY l.seq DESC LIMIT %(events)s) AS e), '[]') AS events
FROM (SELECT c.*, CASE WHEN indexpilot.valid_until(c) <= pg_catalog.clock_timestamp() THEN 'expired' ELSE c.state END AS state_now
      FROM indexpilot.changes c WHERE %(id)s::bigint IS NULL OR c.id = %(id)s::bigint) AS s
WHERE %(states)s::text[] IS NULL OR s.state_now = ANY (%(states)s::text[])
ORDER BY s.id DESC
LIMIT %(limit)s
