-- The newest builds on one database that the catalog has proven, with the rows of the log that tell how long they took.
SELECT c.id, c.plan::jsonb ->> 'method' AS method, c.plan::jsonb ->> 'index' AS index, d.detail,
       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - d.at)::float8 AS age_s,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                 'at', EXTRACT(epoch FROM e.at), 'action', e.action, 'detail', e.detail::jsonb) ORDER BY e.seq)
          FROM indexpilot.mutation_log e
         WHERE e.change_id = c.id AND e.seq < d.seq AND e.action IN ('ddl.intent', 'ddl.outcome', 'phase')) AS events
FROM (SELECT DISTINCT ON (l.change_id) l.change_id, l.seq, l.at, l.detail
        FROM indexpilot.mutation_log l
        JOIN indexpilot.changes k ON k.id = l.change_id
       WHERE l.action = 'verified' AND k.kind IN ('create', 'reindex') AND k.system_identifier = %(system_identifier)s
         AND k.plan::jsonb ->> 'database' = %(database)s::text
       ORDER BY l.change_id DESC, l.seq DESC
       LIMIT %(limit)s) AS d
JOIN indexpilot.changes c ON c.id = d.change_id
ORDER BY d.at DESC
