"""The change: its states, executor, observer, verification, rollback and reconciliation."""
