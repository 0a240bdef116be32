-- The kill switch and the administrator's ceiling.
SELECT p.starts_stopped, p.stopped_reason, p.stopped_by, p.stopped_at, p.max_starts, p.per_seconds FROM indexpilot.policy p
