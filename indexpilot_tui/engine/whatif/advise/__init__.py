"""The advisor: a set of indexes for a workload, chosen on the shadow planner."""
