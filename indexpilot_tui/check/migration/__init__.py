"""Judging a migration file before it runs: locks, names, what it gains and what it breaks."""
