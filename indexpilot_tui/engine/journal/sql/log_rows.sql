-- A page of the mutation log, as it was hashed.
SELECT l.seq, l.at, l.change_id, l.epoch, l.actor, l.client_addr, l.claimed, l.action, l.detail, l.tenant_id, l.prev_hash, l.hash
FROM indexpilot.mutation_log l
WHERE l.seq > %(after)s AND (%(change)s::bigint IS NULL OR l.change_id = %(change)s::bigint)
ORDER BY l.seq
LIMIT %(limit)s
