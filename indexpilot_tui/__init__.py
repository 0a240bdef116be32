"""IndexPilot TUI: a terminal console for PostgreSQL indexes."""

__version__ = "0.1.0"
