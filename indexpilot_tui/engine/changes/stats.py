"""Counters of the statements that touch a table, at one moment: the raw material of before and after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.literals import without_literals
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.errors import PrivilegeError, ServerError

Shapes = Callable[[Iterable[Mapping[str, Any]]], Awaitable[dict[str, Any]]]
WITHHELD = "(its text is not kept: it could not be told from the values in it)"
_WRITING = {"InsertStmt": "insert_stmt", "UpdateStmt": "update_stmt", "DeleteStmt": "delete_stmt", "MergeStmt": "merge_stmt"}
_STATEMENTS = {"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"}


@dataclass(frozen=True, slots=True)
class TableStats:
    """Rows as `verification.verify` wants them: queryid, userid, dbid, toplevel, query (raw), kind, calls, total_exec_time
    and stddev_exec_time in ms, rows, wal_bytes, stats_since. `table`: updates of the table and HOT ones among them, since
    the reset. `taken_at` is the database's clock."""

    taken_at: datetime
    stats_reset: datetime | None
    rows: tuple[dict[str, Any], ...]
    table: dict[str, Any]


async def read_table_stats(session: Session, schema: str, table: str, table_oid: int = 0) -> TableStats:
    """Read pg_stat_statements for one table of this database, and the counters of the table (with `table_oid`).

    Raises ServerError when the extension is not in this database; PrivilegeError and the like as the server says.
    """
    home = await session.value(question("statements_home", session))
    if home is None:
        raise ServerError(
            "pg_stat_statements is not installed in this database, so before and after cannot be compared",
            remedy="CREATE EXTENSION pg_stat_statements",
        )
    where = sql.Identifier(str(home))
    rows = await session.rows(_composed("statements", session, where), {"table": table})
    reset = await session.value(_composed("statements_reset", session, where))
    kept = []
    for row in rows:
        kind = kind_of(str(row["query"]), schema, table) if row["queryid"] is not None else None
        if row["queryid"] is None or kind is not None:
            kept.append({**row, "kind": kind})
    counters = await session.row(question("table_writes", session), {"table_oid": table_oid}) if table_oid else None
    return TableStats(await database_now(session), reset, tuple(kept), counters or {})


def _composed(name: str, session: Session, home: sql.Identifier) -> sql.Composed:
    # the text is one of our own .sql files; the only thing put into it is an identifier
    return sql.SQL(question(name, session)).format(schema=home)


def touches(query: str, schema: str, table: str) -> bool:
    """Whether a statement (SELECT, INSERT, UPDATE, DELETE, MERGE) reads or writes the table, by PostgreSQL's parser."""
    return kind_of(query, schema, table) is not None


def kind_of(query: str, schema: str, table: str) -> str | None:
    """select, insert, update, delete or merge for a statement that touches the table; None for any other. One that writes
    somewhere within (WITH ... DELETE) is no select.

    A bare name counts for a table of any schema: the search path of whoever ran it is not known.
    """
    import postgast

    try:
        tree = parsing.parse(query)
    except postgast.PgQueryError:
        return None  # cut off or not plain SQL: it cannot be told what it touches
    kind = tree.stmts[0].stmt.WhichOneof("node") if tree.stmts else None
    if kind not in _STATEMENTS:
        return None
    found = False
    for _, node in postgast.walk(tree):
        name = type(node).__name__
        found = found or (name == "RangeVar" and node.relname == table and node.schemaname in ("", schema))
        if kind == "select_stmt" and name in _WRITING:
            kind = _WRITING[name]
    return str(kind).removesuffix("_stmt") if found else None


async def save_stats(
    journal: Journal, session: Session, change_id: int, epoch: int, phase: str, plan: Plan, shapes: Shapes | None = None
) -> TableStats:
    """Read the counters and keep them with the change as one phase (proposed, start, end, observed). `shapes`: what tells
    the plans of the statements, asked when their texts are known. StaleEpochError: who was taken over replaces nothing."""
    stats = await read_table_stats(session, plan.schema, plan.table, plan.table_oid)
    context: dict[str, Any] = {"table": stats.table}
    if shapes is not None:
        told = await shapes(stats.rows)
        context |= {"plans": told["plans"], "plans_why": told["why"]}
    # what is kept is kept for months and seen by everybody who may look: no values, no comments
    rows = [{**row, "query": without_literals(str(row["query"])) or WITHHELD} for row in stats.rows]
    await journal.save_stats(change_id, epoch, phase, stats.taken_at, stats.stats_reset, rows, context)
    return stats


async def remember(session: Session, journal: Journal, change_id: int, phase: str) -> str:
    """`save_stats` for a change by its id, where missing counters are no error: why they are missing, or an empty string.
    The verdict on such a change will be "no evidence", with that reason."""
    change = await journal.change(change_id)
    try:
        await save_stats(journal, session, change_id, change.epoch, phase, change.plan)
    except (ServerError, PrivilegeError) as exc:
        await journal.append(change_id, change.epoch, "stats.missing", {"phase": phase, "why": exc.message})
        return exc.message
    return ""
