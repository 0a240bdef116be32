"""Bundles: a target captured in a file (definitions, statistics, workload; no rows), and a session that answers from it."""
