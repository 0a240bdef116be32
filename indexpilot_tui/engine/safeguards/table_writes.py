"""How a table is written: its statements, their mean time between two readings, its HOT updates. For the gate before a
build, and again for the guard during it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.ask import PACKAGE as OBSERVE
from indexpilot_tui.engine.observe.source import Source, source_of, statements_question
from indexpilot_tui.engine.observe.tables import read_tables
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.safeguards.context import PACKAGE, PlanView
from indexpilot_tui.engine.safeguards.hot_columns import Written, written


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a table: how many indexes it has, it and its partitions, and the columns that indexes look at today."""

    indexes: int
    oids: tuple[int, ...]
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Statements:
    """Statements that write the table, and the ids to ask for their times with. `unavailable`: why they are not known."""

    source: Source
    queryids: tuple[int, ...] = ()
    found: tuple[Written, ...] = ()

    @property
    def unavailable(self) -> str:
        return self.source.unavailable


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment, since the reset: of the table's writing statements, and of its rows."""

    calls: float
    total_ms: float
    updated: float
    hot_updated: float


@dataclass(frozen=True, slots=True)
class Writes:
    """Between two moments. `mean_ms` None: nothing was written; `hot` (0..1) None: nothing was updated."""

    calls: float
    mean_ms: float | None
    hot: float | None


@dataclass(frozen=True, slots=True)
class Before:
    """How it was just before a build: writes of the table, transactions a second of the database (None: not known)."""

    writes: Writes
    xacts: float | None


async def facts_of(session: Session, plan: PlanView) -> Facts:
    """Raises ValueError when the server does not tell."""
    row = await session.row(load(PACKAGE, "written", session.facts.server_version), {"table_oid": plan.table_oid})
    if row is None:
        raise ValueError("the server does not tell which indexes the table has")
    return Facts(int(row["indexes"]), tuple(row["oids"]), frozenset(row["columns"]))


async def statements_of(session: Session, plan: PlanView) -> Statements:
    """The statements of pg_stat_statements that write the table; texts are read, so not to be asked every second."""
    probe: dict[str, Any] | None = await session.row(load(OBSERVE, "probe", session.facts.server_version))
    if probe is None:
        raise ValueError("the server does not tell where pg_stat_statements is")
    source = source_of(probe)
    if source.unavailable:
        return Statements(source)
    text = sql.SQL(load(PACKAGE, "table_statements", source.variant)).format(schema=sql.Identifier(source.schema))
    ids, found = [], []
    for row in await session.rows(text, {"table": plan.table}):
        one = written(str(row["query"]), float(row["calls"]), plan.schema, plan.table)
        if one is not None:
            ids.append(int(row["queryid"]))
            found.append(one)
    return Statements(source, tuple(ids), tuple(found))


async def counts_of(session: Session, facts: Facts, statements: Statements) -> Counts:
    """The counters now. Raises IndexPilotError or ValueError when they cannot be read."""
    calls = total = 0.0
    if statements.queryids:
        asked = statements_question("write_times", statements.source, "", queryids=list(statements.queryids))
        row = await session.row(asked.text, asked.params)
        if row is None:
            raise ValueError("the server gave no times of the table's statements")
        calls, total = float(row["calls"] or 0), float(row["total_ms"] or 0.0)
    tables = (await read_tables(session, facts.oids)).values()
    return Counts(calls, total, float(sum(t.updated for t in tables)), float(sum(t.hot_updated for t in tables)))


def between(before: Counts, after: Counts) -> Writes:
    """Raises ValueError when a counter went back: then nothing is known of the time between."""
    calls, ms = after.calls - before.calls, after.total_ms - before.total_ms
    updated, hot = after.updated - before.updated, after.hot_updated - before.hot_updated
    if min(calls, ms, updated, hot) < 0:
        raise ValueError("the table's counters were reset between two readings")
    return Writes(calls, ms / calls if calls else None, hot / updated if updated else None)
