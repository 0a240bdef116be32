"""Where the statements of a forecast come from: a file, or pg_stat_statements."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.read import PACKAGE, Reader
from indexpilot_tui.engine.whatif.statements import HIDDEN, OWN
from indexpilot_tui.errors import NotInstalledError, UsageError

MAX_FILE_BYTES = 50_000_000
DEFAULT_LIMIT = 500


class ServerWorkload(list[Statement]):
    """Statements of pg_stat_statements, with notes on what is missing. A forecast takes those that touch the table of the
    change, where it takes all of a workload that the operator chose."""

    def __init__(self, statements: Iterable[Statement], notes: Iterable[str]) -> None:
        super().__init__(statements)
        self.notes = tuple(notes)


def _bad(path: Path, message: str) -> UsageError:
    return UsageError(
        message, field="workload", value=str(path),
        remedy='give SQL statements ended by ";", or a JSON list of {"query": ..., "calls": ...}',
    )  # fmt: skip


def read_workload_file(path: Path) -> list[Statement]:
    """Statements of a file: SQL ended by `;`, a JSON list of {"query", "calls", "total_ms"?, "id"?}, or
    {"queries": {id: sql}}. Raises UsageError for anything else."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _bad(path, f"the file is larger than {MAX_FILE_BYTES // 1_000_000} MB")
        text = path.read_text("utf-8-sig")
    except OSError as exc:
        raise _bad(path, f"the file cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise _bad(path, f"the file is not UTF-8 (byte {exc.start})") from None
    statements = _from_json(path, text) if text.lstrip()[:1] in ("[", "{") else _from_sql(path, text)
    if not statements:
        raise _bad(path, "there is no statement in the file")
    return statements


def _from_sql(path: Path, text: str) -> list[Statement]:
    import postgast

    try:
        parts = postgast.split(text, method="scanner")
    except postgast.PgQueryError as exc:
        raise _bad(path, f"the statements cannot be told apart: {clean_line(str(exc), 200)}") from None
    return [Statement(str(n), part.strip(), 1.0) for n, part in enumerate((p for p in parts if p.strip()), 1)]


def _from_json(path: Path, text: str) -> list[Statement]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _bad(path, f"not JSON: {exc}") from None
    if isinstance(data, dict):
        queries = data.get("queries")
        if not isinstance(queries, dict) or not all(isinstance(q, str) for q in queries.values()):
            raise _bad(path, 'a JSON object needs "queries" with the SQL by id')
        return [Statement(str(key), query, 1.0) for key, query in queries.items()]
    return [_entry(path, number, item) for number, item in enumerate(data, 1)]


def _entry(path: Path, number: int, item: Any) -> Statement:
    if not isinstance(item, dict) or not isinstance(item.get("query"), str):
        raise _bad(path, f'entry {number} has no text in "query"')
    calls, total = item.get("calls", 1), item.get("total_ms")
    if isinstance(calls, bool) or not isinstance(calls, int | float) or not 0 <= calls < 1e18:
        raise _bad(path, f'"calls" of entry {number} is not a count')
    if total is not None and (isinstance(total, bool) or not isinstance(total, int | float) or not 0 <= total < 1e18):
        raise _bad(path, f'"total_ms" of entry {number} is not a time')
    key = str(item.get("queryid", item.get("id", number)))
    return Statement(key, item["query"], float(calls), float(total) if total is not None else None)


async def from_pg_stat_statements(session: Session, limit: int = DEFAULT_LIMIT) -> ServerWorkload:
    """The `limit` statements of this database with the most execution time, texts as the server has them (hidden ones
    too: they are left out of a forecast with the reason). Raises NotInstalledError without the extension."""
    return await read_statements(Reader(session), limit)


async def read_statements(reader: Reader, limit: int = DEFAULT_LIMIT) -> ServerWorkload:
    """`from_pg_stat_statements`, its cost counted by `reader`."""
    where = await reader.ask("extension_schema", extension="pg_stat_statements")
    if not where:
        raise NotInstalledError(
            "pg_stat_statements is not installed in this database, so its statements are not known",
            field="workload", remedy="CREATE EXTENSION pg_stat_statements, or give --workload FILE",
        )  # fmt: skip
    text = load(PACKAGE, "statements", reader.session.facts.server_version)
    query = sql.SQL(text).format(schema=sql.Identifier(where[0]["schema"]), limit=sql.Literal(limit))
    rows = await reader.send(query)
    rows = [r for r in rows if r["query"] is not None and not OWN.match(r["query"])]
    hidden = sum(r.get("entries") or 1 for r in rows if r["query"].startswith(HIDDEN))
    notes = [f"{hidden} statements are hidden from this role: grant pg_read_all_stats"] if hidden else []
    if len(rows) >= limit:
        notes.append(f"only the {limit} statements with the most execution time were read")
    return ServerWorkload((Statement(r["key"] or "hidden", r["query"], r["calls"], r["total_ms"]) for r in rows), notes)
