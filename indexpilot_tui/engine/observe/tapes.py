"""What is known of tables and databases over the last hour, as it is read at the slow pace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from indexpilot_tui.engine.observe.ask import Rows
from indexpilot_tui.engine.observe.book import Tapes
from indexpilot_tui.engine.observe.spots import database_figures, table_figures
from indexpilot_tui.engine.observe.tables import TableCounters
from indexpilot_tui.engine.observe.tape import Tape

DATABASES_FOR_S = 900.0  # databases are counted so long after somebody looked at them


@dataclass(slots=True)
class TapeDeck:
    """`server_started` of the newest reading: another one begins anew."""

    tables: Tape = field(default_factory=Tape)
    databases: Tape = field(default_factory=Tape)
    sessions: dict[int, int] = field(default_factory=dict)
    databases_timed: bool = False
    _wanted_until: float = 0.0
    _started: datetime | None = None

    def want_databases(self, now: float) -> None:
        self._wanted_until = now + DATABASES_FOR_S

    def wants_databases(self, now: float) -> bool:
        return now < self._wanted_until

    def note_server(self, started: datetime) -> None:
        """The server's start, as the pulse has it."""
        if self._started not in (None, started):
            self.tables.cut()
            self.databases.cut()
        self._started = started

    def take_tables(self, at: float, tables: Mapping[int, TableCounters]) -> None:
        self.tables.add(at, *table_figures(tables))

    def take_databases(self, rows: Rows) -> None:
        """The rows of `databases.sql`."""
        counters, names, self.sessions = database_figures(rows)
        self.databases_timed = bool(rows) and rows[0]["active_ms"] is not None
        if rows:
            self.databases.add(rows[0]["at"].timestamp(), counters, names)

    def now(self) -> Tapes:
        """As it stands; it does not change any more."""
        return Tapes(
            tuple(self.tables.pieces), self.tables.names, tuple(self.databases.pieces), self.databases.names,
            dict(self.sessions), self.databases_timed,
        )  # fmt: skip
