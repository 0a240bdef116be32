"""Extensions that are used where a database has them, and never needed: where each lives, or why it cannot be used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.text import clean_line

PACKAGE = "indexpilot_tui.engine.postgres"
KCACHE, WAIT_SAMPLING, QUALSTATS = "pg_stat_kcache", "pg_wait_sampling", "pg_qualstats"


@dataclass(frozen=True, slots=True)
class Home:
    """`schema` is raw; `variant` is the extension's version as the `.sql` files have it (2.2.1 is 020201). With `why` it
    cannot be used."""

    name: str
    schema: str = ""
    variant: int = 0
    why: str = ""


def extensions_text(server_version: int) -> str:
    """The question, with the parameter `names`."""
    return load(PACKAGE, "extensions", server_version)


def homes_of(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Home]:
    """One for each name, there or not."""
    found = {row["name"]: row for row in rows}
    return {name: _home(name, found.get(name)) for name in names}


def _home(name: str, row: Mapping[str, Any] | None) -> Home:
    if row is None:
        return Home(
            name, why=f"{name} is not in this database (it is not needed; shared_preload_libraries and CREATE EXTENSION)"
        )
    if not row["usable"]:
        grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
            sql.Identifier(row["schema"]), sql.Identifier(row["role_name"])
        )
        return Home(name, why=f"{name} lies in a schema that this role may not use: {clean_line(grant.as_string())}")
    digits = [int(part) for part in str(row["version"]).split(".") if part.isdigit()][:3]
    major, minor, patch = (*digits, 0, 0, 0)[:3]
    return Home(name, row["schema"], major * 10_000 + minor * 100 + patch)
