"""How a table is written: its statements, their mean time between two readings, its HOT updates. For the gate before a
build, and again for the guard during it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.ask import PACKAGE as OBSERVE
from indexpilot_tui.engine.observe.source import Source, source_of
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


Entry = tuple[int, ...]  # of pg_stat_statements: queryid, user, whether it was called by itself
Times = Mapping[Entry, tuple[float, float]]  # calls, ms


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment: of the entries of the table's writing statements (one that was asked for and is not there was
    never counted, or is not any more), and of its rows since the reset. `asked`: the queryids that were asked for."""

    statements: Times
    updated: float
    hot_updated: float
    asked: frozenset[int]


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
    times: dict[Entry, tuple[float, float]] = {}
    if statements.queryids:
        text = sql.SQL(load(PACKAGE, "statement_times", statements.source.variant))
        asked = text.format(schema=sql.Identifier(statements.source.schema))
        for row in await session.rows(asked, {"queryids": list(statements.queryids)}):
            entry = int(row["queryid"]), int(row["userid"]), int(row["toplevel"])
            times[entry] = float(row["calls"]), float(row["total_ms"])
    tables = (await read_tables(session, facts.oids)).values()
    updated, hot = float(sum(t.updated for t in tables)), float(sum(t.hot_updated for t in tables))
    return Counts(times, updated, hot, frozenset(statements.queryids))


def between(before: Counts, after: Counts) -> Writes:
    """By each entry's own growth, as pg_stat_statements forgets single ones when it is full (those that run least): one
    whose counters went back came again, and has done all that it shows since. Statements that were asked for at one of the
    two moments only are left out.

    Raises ValueError when nothing is known of the time between: a table's counters went back, other statements were
    asked for, no entry of before has gone on, or some were forgotten and no other has run."""
    updated, hot = after.updated - before.updated, after.hot_updated - before.hot_updated
    if min(updated, hot) < 0:
        raise ValueError("the table's counters were reset between two readings")
    both = before.asked & after.asked
    if (before.asked or after.asked) and not both:
        raise ValueError("the statements that write the table are others than a moment ago")
    earlier, later = ({e: t for e, t in side.items() if e[0] in both} for side in (before.statements, after.statements))
    gone = set(earlier.keys() - later.keys())
    back = {e for e in earlier.keys() & later.keys() if _went_back(earlier[e], later[e])}
    calls = ms = 0.0
    for entry, (calls_now, ms_now) in later.items():
        calls_then, ms_then = (0.0, 0.0) if entry in back else earlier.get(entry, (0.0, 0.0))
        calls, ms = calls + calls_now - calls_then, ms + ms_now - ms_then
    lost = gone | back
    if (lost and lost == earlier.keys()) or (gone and not calls):
        raise ValueError(
            f"pg_stat_statements has forgotten {len(lost)} statements that write the table between two readings:"
            " it was reset, or it is full (raise pg_stat_statements.max)"
        )
    return Writes(calls, ms / calls if calls else None, hot / updated if updated else None)


def _went_back(then: tuple[float, float], now: tuple[float, float]) -> bool:
    return now[0] < then[0] or now[1] < then[1] or (now[0] == then[0] and now[1] != then[1])
