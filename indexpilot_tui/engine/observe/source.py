"""Where statements are read: the schema and the version of pg_stat_statements, or what stands in the way, with its
remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.ask import PACKAGE, Question
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.text import clean_line

# the extension's version decides, not the server's: an upgraded cluster keeps the old one until ALTER EXTENSION UPDATE
_EXTENSION = (((1, 11), 170000), ((1, 9), 140000), ((1, 8), 130000))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the statements come from: the extension's schema and the variant of the question, or why there is none."""

    schema: str = ""
    variant: int = 0
    unavailable: str = ""


def source_of(probe: Mapping[str, Any]) -> Source:
    """Where to read statements, from the row of `probe.sql`; what is in the way comes with its remedy."""
    version_text = probe["extension_version"]
    if version_text is None:
        return Source(
            unavailable="the extension pg_stat_statements is not in this database: put it into shared_preload_libraries, "
            "restart, and run CREATE EXTENSION pg_stat_statements"
        )
    schema = str(probe["extension_schema"])
    if not probe["extension_visible"]:
        grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
            sql.Identifier(schema), sql.Identifier(str(probe["role_name"]))
        )
        return Source(
            unavailable=f"pg_stat_statements lies in a schema that this role may not use: {clean_line(grant.as_string())}"
        )
    version = tuple(int(part) for part in str(version_text).split(".") if part.isdigit())
    for minimum, variant in _EXTENSION:
        if version >= minimum:
            return Source(schema, variant)
    return Source(
        unavailable=f"pg_stat_statements {clean_line(str(version_text))} is too old: "
        "ALTER EXTENSION pg_stat_statements UPDATE"
    )


def statements_question(name: str, source: Source, remedy: str, **params: Any) -> Question:
    """`statements` or `texts` for the extension's own schema, wherever it was put."""
    text = load(PACKAGE, name, source.variant)
    composed = sql.SQL(text).format(schema=sql.Identifier(source.schema))  # our own .sql file
    return Question(name, composed, params or None, remedy)
