"""The control schema as SQL to review and run; see the header of what it returns."""

from __future__ import annotations

from importlib import resources

SCHEMA_VERSION = 2


def setup_sql(*, multi_tenant: bool = False) -> str:
    """The whole set-up script: roles, tables, functions, grants, in one transaction; with `multi_tenant` also row-level
    security, so that tenants do not see each other's rows. Running it twice is harmless.

    Plain SQL without psql commands: psql runs it, and so does one `conn.execute(setup_sql())` in autocommit.
    """
    sql = resources.files(__package__).joinpath("sql")
    folders = ("setup", "multi_tenant") if multi_tenant else ("setup",)
    files = [entry for folder in folders for entry in sql.joinpath(folder).iterdir() if entry.name.endswith(".sql")]
    return "\n".join(part.read_text("utf-8").strip() + "\n" for part in sorted(files, key=lambda entry: entry.name))
