-- The statistics of the statements on the table, as they were saved at each phase.
SELECT s.phase, s.taken_at, s.stats_reset, s.rows, s.context FROM indexpilot.change_stats s WHERE s.change_id = %(id)s
