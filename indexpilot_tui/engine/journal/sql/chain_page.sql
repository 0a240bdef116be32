-- A page of the log with the head that the chain has in the same snapshot; one row without a seq when no rows are left.
SELECT h.chain_id::text AS chain_id, h.seq AS head_seq, h.hash AS head_hash, l.*
FROM indexpilot.chain_head h
LEFT JOIN LATERAL (
  SELECT m.seq, m.at, m.change_id, m.epoch, m.actor, m.client_addr, m.claimed, m.action, m.detail, m.tenant_id, m.prev_hash, m.hash
  FROM indexpilot.mutation_log m WHERE m.seq > %(after)s ORDER BY m.seq LIMIT %(limit)s) AS l ON true
ORDER BY l.seq
