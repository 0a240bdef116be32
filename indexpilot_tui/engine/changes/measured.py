"""What a build took, for the forecasts of later ones: sizes and rows from the catalog, WAL and temporary files from the
server's own counters of that statement."""

from __future__ import annotations

from typing import Any

import postgast
from psycopg import sql

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import IndexPilotError


async def of_build(session: Session, oid: int, ddl: str) -> dict[str, Any]:
    """Facts for the row that proves the index; what could not be read is named there and hinders nothing."""
    facts: dict[str, Any] = {}
    try:
        row = await session.row(question("build_facts", session), {"oid": oid})
        if row is not None:
            facts |= {k: row[k] for k in ("rows", "heap_bytes", "partial")}
        facts |= await _counted(session, ddl)
    except IndexPilotError as exc:
        if session.closed:
            raise
        facts["not_measured"] = exc.message
    return facts


async def _counted(session: Session, ddl: str) -> dict[str, Any]:
    """WAL and temporary files of the statement, where pg_stat_statements has seen it exactly once."""
    home = await session.value(question("statements_home", session))
    if home is None:
        return {"not_measured": "WAL and temporary files: pg_stat_statements is not installed"}
    query = sql.SQL(question("build_cost", session)).format(schema=sql.Identifier(str(home)))
    wanted = _print(ddl)
    rows = [r for r in await session.rows(query) if wanted and _print(r["query"]) == wanted]
    if len(rows) != 1 or rows[0]["calls"] != 1:
        return {"not_measured": f"WAL and temporary files: pg_stat_statements has the statement {_times(rows)}"}
    return {"wal_bytes": int(rows[0]["wal_bytes"]), "temp_bytes": int(rows[0]["temp_bytes"])}


def _times(rows: list[dict[str, Any]]) -> str:
    calls = sum(r["calls"] for r in rows)
    return "not at all" if not calls else f"{calls} times"


def _print(text: str) -> str:
    """A statement's fingerprint: from 16 on the constants of its predicate are parameters there."""
    try:
        return str(postgast.fingerprint(text).hex)
    except postgast.PgQueryError:
        return ""
