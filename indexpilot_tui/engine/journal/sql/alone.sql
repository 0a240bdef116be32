-- Does the administrator let one person propose and approve this change?
SELECT indexpilot._alone(c.plan) AS alone FROM indexpilot.changes c WHERE c.id = %(id)s
