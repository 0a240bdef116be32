"""Reading index health a question at a time, and of what was read before only what has changed.

The light question (`index_state`) tells of all indexes whether their definitions have changed and how often they were
scanned. Those that are new or changed are then read whole, some thousand at a time, so that no statement of ours runs for
long. Sizes, tables and foreign keys have paces of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from indexpilot_tui.engine.observe.ask import Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.indexes.bloat import Bloat
from indexpilot_tui.engine.observe.indexes.conflicts import conflicts_of
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts, Twins, facts_of, twins_of
from indexpilot_tui.engine.observe.indexes.foreign_keys import supports
from indexpilot_tui.engine.observe.indexes.situation import StandbyUse
from indexpilot_tui.engine.observe.indexes.structure import Shape, shape_of
from indexpilot_tui.engine.observe.pace import Pace
from indexpilot_tui.engine.observe.rota import Answer, Asking
from indexpilot_tui.engine.observe.source import Source, statements_question
from indexpilot_tui.engine.observe.tables import TableCounters

CHUNK = 2_000  # indexes in one statement: 60 to 150 ms of the server (measured on 18)
READ_OVER = 100  # indexes that are read along rather than asked around
SIZES_S, TABLES_S, KEYS_S, CONFLICTS_S = 300.0, 30.0, 60.0, 600.0
LIGHT = ("health_facts", "index_state", "index_work")  # what each round costs


class State(NamedTuple):
    """A row of `index_state.sql`."""

    oid: int
    table_oid: int
    stamp: int
    scans: int | None
    last_scan: datetime | None


class Size(NamedTuple):
    """A row of `index_sizes.sql`."""

    oid: int
    size_bytes: int | None
    rows: float


@dataclass(slots=True)
class Known:
    """What has been read so far. `refused` names what could not be, by question."""

    facts: dict[str, Any] = field(default_factory=dict)
    indexes: dict[int, IndexFacts] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)
    tables: dict[int, TableCounters] = field(default_factory=dict)
    foreign_keys: Sequence[Mapping[str, Any]] | None = None
    conflicts: dict[tuple[str, frozenset[str]], int] = field(default_factory=dict)
    standbys: tuple[StandbyUse, ...] | None = None
    bloat: dict[int, Bloat] = field(default_factory=dict)
    best_bytes_a_row: dict[tuple[str, str], float] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    complete: bool = False

    @property
    def twins(self) -> Twins:
        return twins_of(self.facts.get("opclass_twins"))


@dataclass(slots=True)
class HealthReader:
    """The questions of index health of one database. `version` is the server's; `budget` as of `pace`. `done` is called
    after each round that has read all there is."""

    version: int
    budget: float
    done: Callable[[], None]
    known: Known = field(default_factory=Known)
    _ms: float = 0.0  # what the part that is being read has cost so far
    source: Source | None = None  # where statements are read, once that is known
    _conflicts: Pace = field(default_factory=lambda: Pace(CONFLICTS_S, 0.05))
    _sizes: Pace = field(default_factory=lambda: Pace(SIZES_S, 0.15))
    _tables: Pace = field(default_factory=lambda: Pace(TABLES_S, 0.1))
    _keys: Pace = field(default_factory=lambda: Pace(KEYS_S, 0.1))

    def round(self) -> Asking:
        """One round: what has changed, and what is due."""
        if not (yield from self._one("health_facts")):
            return
        rows = self._rows("index_state", (yield question("index_state", self.version, bulk=True)))
        if rows is None:
            return
        states = [State._make(row) for row in rows[0]["rows"]]
        first, had = not self.known.complete, len(self.known.indexes)
        new = self._changed(states)
        gone = len(self.known.indexes) < had
        if new and not (yield from self._read(new, states)):
            return
        yield from self._work()
        now = time.monotonic()
        if first:
            self._sizes.due = now + SIZES_S  # they came with the definitions
        if self._sizes.ready(now):
            yield from self._timed(self._sizes, self._read_sizes(states))
        if self._tables.ready(now):
            yield from self._timed(self._tables, self._read_tables())
        if self._keys.ready(now) or new or gone:
            yield from self._timed(self._keys, self._read_keys())
        self._remember_ratios()
        self.known.complete = True
        self.done()
        if self.source is not None and self._conflicts.ready(now) and self._unique_twins():
            yield from self._timed(self._conflicts, self._read_conflicts(self.source))
            self.done()

    # --- the parts -----------------------------------------------------------------------------------------------

    def _one(self, name: str) -> Generator[Question, Answer, bool]:
        rows = self._rows(name, (yield question(name, self.version)))
        if not rows:
            return False
        self.known.facts = rows[0]
        return True

    def _rows(self, name: str, answer: Answer) -> Rows | None:
        """The rows; None for a refusal, which is remembered."""
        self._ms += answer.ms
        if isinstance(answer.rows, Refusal):
            self.known.refused[name] = answer.rows
            return None
        self.known.refused.pop(name, None)
        return answer.rows

    def _changed(self, states: Sequence[State]) -> list[State]:
        """Those to be read whole; the others get their new scans, and what has gone is forgotten."""
        known = self.known
        there = {state.oid for state in states}
        for oid in [oid for oid in known.indexes if oid not in there]:
            del known.indexes[oid], known.stamps[oid]
            known.bloat.pop(oid, None)
        new: list[State] = []
        for state in states:
            facts = known.indexes.get(state.oid)
            if facts is None or known.stamps.get(state.oid) != state.stamp or facts.locked:
                new.append(state)
            else:
                facts.scans, facts.last_scan = state.scans, state.last_scan
        return new

    def _read(self, new: Sequence[State], states: Sequence[State]) -> Generator[Question, Answer, bool]:
        """Definitions, by ranges of table oids in which there are not too many indexes."""
        stamps = {state.oid: state.stamp for state in states}
        wanted = {state.table_oid for state in new}
        for first, last in ranges(states, wanted):
            rows = self._rows(
                "indexes", (yield question("indexes", self.version, first=first, last=last, definitions=False))
            )
            if rows is None:
                return False
            for row in rows:
                facts = facts_of(row)
                self.known.indexes[facts.oid] = facts
                if facts.oid in stamps:
                    self.known.stamps[facts.oid] = stamps[facts.oid]
        rows = self._rows("index_options", (yield question("index_options", self.version)))
        parameters: dict[int, list[tuple[int, str]]] = {}
        for row in rows or ():
            parameters.setdefault(row["oid"], []).append((row["place"], row["options"]))
        for oid, places in parameters.items():
            if oid in self.known.indexes:
                self.known.indexes[oid].parameters = tuple(sorted(places))
        return True

    def _work(self) -> Asking:
        """What somebody works on now."""
        rows = self._rows("index_work", (yield question("index_work", self.version)))
        if rows is None:
            return
        found: dict[str, set[int]] = {"locked": set(), "busy": set(), "building": set()}
        for row in rows:
            found[row["what"]].add(row["oid"])
        for facts in self.known.indexes.values():
            facts.busy = facts.table_oid in found["busy"]
            facts.building = facts.oid in found["building"]
            if not facts.locked:  # one that could not be read whole stays so until it is read again
                facts.locked = bool(found["locked"] & {facts.oid, facts.table_oid}) and facts.size_bytes is None

    def _read_sizes(self, states: Sequence[State]) -> Asking:
        for first, last in ranges(states, {state.table_oid for state in states}):
            wanted = question("index_sizes", self.version, bulk=True, first=first, last=last)
            rows = self._rows("index_sizes", (yield wanted))
            for row in rows[0]["rows"] if rows else ():
                size = Size._make(row)
                facts = self.known.indexes.get(size.oid)
                if facts is not None and size.size_bytes is not None:
                    facts.size_bytes, facts.rows = size.size_bytes, size.rows

    def _read_tables(self) -> Asking:
        rows = self._rows("tables", (yield question("tables", self.version, bulk=True, oids=None)))
        if rows:
            self.known.tables = {row[0]: TableCounters._make(row) for row in rows[0]["rows"]}

    def _read_keys(self) -> Asking:
        """The columns of all; of those that no index serves the rest, too."""
        self.known.foreign_keys = None
        rows = self._rows("foreign_key_columns", (yield question("foreign_key_columns", self.version)))
        if rows is None:
            return
        by_table: dict[int, list[Shape]] = {}
        tables = {row["table_oid"] for row in rows}
        for facts in self.known.indexes.values():
            if facts.table_oid in tables:
                by_table.setdefault(facts.table_oid, []).append(shape_of(facts))
        bare = [r["oid"] for r in rows if not any(supports(s, r["columns"]) for s in by_table.get(r["table_oid"], ()))]
        details: dict[int, Mapping[str, Any]] = {}
        if bare:
            more = self._rows("foreign_keys", (yield question("foreign_keys", self.version, oids=bare)))
            if more is None:
                return
            details = {row["oid"]: row for row in more}
        self.known.foreign_keys = [details.get(row["oid"], row) for row in rows]

    def _unique_twins(self) -> bool:
        """Whether columns of a table are kept unique twice: then it matters who relies on either by ON CONFLICT."""
        seen: set[tuple[int, tuple[int, ...]]] = set()
        for facts in self.known.indexes.values():
            key = (facts.table_oid, facts.keys[: facts.key_count])
            if facts.unique and key in seen:
                return True
            if facts.unique:
                seen.add(key)
        return False

    def _read_conflicts(self, source: Source) -> Asking:
        rows = self._rows("conflict_texts", (yield statements_question("conflict_texts", source, "")))
        if rows is not None:
            self.known.conflicts = conflicts_of(row["query"] or "" for row in rows)

    def _timed(self, pace: Pace, part: Asking) -> Asking:
        """A part with a pace of its own."""
        self._ms = 0.0
        yield from part
        pace.asked(time.monotonic(), self._ms, self.budget)

    def _remember_ratios(self) -> None:
        """The best bytes a row that each index was seen with: what another method's index has above it is air."""
        best = self.known.best_bytes_a_row
        for facts in self.known.indexes.values():
            if facts.method in ("btree", "brin") or not facts.size_bytes or facts.rows < 1_000:
                continue
            ratio, name = facts.size_bytes / facts.rows, (facts.schema, facts.name)
            lowest = best[name] = min(ratio, best.get(name, ratio))
            if ratio > lowest:
                self.known.bloat[facts.oid] = Bloat(
                    "bytes a row against the best seen", facts.size_bytes, int(lowest * facts.rows), error=0.1
                )


def ranges(states: Iterable[State], wanted: set[int]) -> list[tuple[int, int]]:
    """Ranges of table oids that hold the wanted tables, none with many more than CHUNK indexes in it."""
    counts: dict[int, int] = {}
    for state in states:
        counts[state.table_oid] = counts.get(state.table_oid, 0) + 1
    found: list[tuple[int, int]] = []
    first = last = size = between = 0  # `between`: indexes that nobody wants since the last wanted table
    for table in sorted(counts):
        if table not in wanted:
            between += counts[table]
            continue
        if size and (size + between + counts[table] > CHUNK or between > READ_OVER):
            found.append((first, last))
            size = 0
        size = size + between + counts[table] if size else counts[table]
        first = first if size > counts[table] else table
        last, between = table, 0
    return [*found, (first, last)] if size else found
