-- Rights of the demo's logins on top of the control schema. Reading all data is for the demo only, where all data is
-- generated: it makes pg_stats readable without the control schema's reader of statistics.
GRANT pg_monitor, pg_read_all_data TO indexpilot_monitor;
GRANT indexpilot_monitor TO demo_monitor, demo_operator, demo_approver;
GRANT indexpilot_operator TO demo_operator;
GRANT indexpilot_approver TO demo_approver;
GRANT shop_owner TO demo_operator WITH INHERIT FALSE, SET TRUE;
