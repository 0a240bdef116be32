-- The end of the chain, and whose it is.
SELECT h.chain_id::text AS chain_id, h.seq, h.hash FROM indexpilot.chain_head h
