-- The kill switch, and what the administrator rules.
SELECT p.starts_stopped, p.stopped_reason, p.stopped_by, p.stopped_at, p.max_starts, p.per_seconds, p.self_approval,
       p.bypass_max_minutes, p.keep_log_days
FROM indexpilot.policy p
