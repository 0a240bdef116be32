-- The end of the chain, whose it is, and whether this login sees all of it.
SELECT h.chain_id::text AS chain_id, h.seq, h.hash, indexpilot._sees_all() AS whole FROM indexpilot.chain_head h
