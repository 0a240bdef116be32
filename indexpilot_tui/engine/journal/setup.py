"""The control schema as SQL to review and run; see the header of what it returns."""

from __future__ import annotations

from importlib import resources

SCHEMA_VERSION = 1


def setup_sql() -> str:
    """The whole set-up script: roles, tables, functions, grants, in one transaction. Running it twice is harmless.

    Plain SQL without psql commands: psql runs it, and so does one `conn.execute(setup_sql())` in autocommit.
    """
    folder = resources.files(__package__).joinpath("sql", "setup")
    parts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return "\n".join(part.read_text("utf-8").strip() + "\n" for part in parts)
