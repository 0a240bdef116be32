"""What is not asked at every refresh: index health, replication, builds, what the role may see. Each at its own pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.activity import builds_of
from indexpilot_tui.engine.observe.ask import Refusal, Rows, question
from indexpilot_tui.engine.observe.health import health_from
from indexpilot_tui.engine.observe.indexes.bloat import Bloat
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.reader import LIGHT, HealthReader
from indexpilot_tui.engine.observe.indexes.situation import StandbyUse
from indexpilot_tui.engine.observe.model import BuildProgress, IndexHealth
from indexpilot_tui.engine.observe.pace import Pace
from indexpilot_tui.engine.observe.pulse import Pulse
from indexpilot_tui.engine.observe.replication import Replication, replication_of
from indexpilot_tui.engine.observe.rota import Asking, Rota, Task
from indexpilot_tui.engine.observe.signals import GRANT_MONITOR, replication_questions
from indexpilot_tui.engine.observe.source import Source, source_of, statements_question
from indexpilot_tui.engine.observe.spots import Timed
from indexpilot_tui.engine.observe.tapes import TapeDeck
from indexpilot_tui.engine.observe.writes import LEARN_S
from indexpilot_tui.engine.observe.writing import WriteGauge, Writing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.settings.model import Settings

_PROBE_S = 60.0
# with nobody who follows there is nothing to see: whether somebody has come is looked up now and then
_REPLICATION_S, _NOBODY_FOLLOWS_S = 6.0, 30.0
_DATABASES_S = 10.0
_AFTER_S = 3.0  # what reads the texts of all statements is not for the first screen
_ESSENTIAL = ("health_facts", "index_state", "indexes")  # without these there is no index health


class Slow:
    """The slow questions of one server and what they found. `pulse` gives the newest pulse; `new_source` is called when the
    statements have come or gone."""

    def __init__(
        self, settings: Settings, version: int, pulse: Callable[[], Pulse | None], new_source: Callable[[], None]
    ) -> None:
        observe = settings.observe
        self.settings, self.version = settings, version
        self._pulse, self._new_source = pulse, new_source
        self.source: Source | None = None
        self.role: Mapping[str, Any] = {}
        self.builds: tuple[BuildProgress, ...] = ()
        self.replication: Replication | None = None
        self.replication_at: datetime | None = None
        self.writes = WriteGauge()
        self.health: IndexHealth | None = None
        self.health_note = ""
        self.tapes = TapeDeck()
        self._reader = HealthReader(version, observe.server_ms_per_minute_budget, self._judge)
        self._tables_seen = self._reader.known.tables
        self._replication_pace = Pace(_REPLICATION_S, 0.1)
        self.rota = Rota(observe.server_ms_per_minute_budget)
        self.rota.tasks = [
            Task("builds", Pace(observe.interval_seconds, 0.05), self._ask_builds, urgent=True),
            Task("health", Pace(observe.health_interval_seconds, 0.2), self._ask_health, booked=LIGHT),
            Task("replication", self._replication_pace, self._ask_replication),
            Task("databases", Pace(_DATABASES_S, 0.05), self._ask_databases),
            Task("writers", Pace(LEARN_S, 0.05, due=time.monotonic() + _AFTER_S), self._ask_writers),
            Task("probe", Pace(_PROBE_S, 0.05, due=time.monotonic() + _PROBE_S), self._ask_probe),
        ]

    @property
    def timed(self) -> Timed:
        """What the server measures of statements."""
        return Timed(bool(self.role.get("times_io")), bool(self.role.get("times_planning")))

    def grant(self) -> str:
        """The GRANT that would show everything."""
        role = sql.Identifier(str(self.role.get("role_name") or "the_role_of_this_console")).as_string()
        return GRANT_MONITOR.format(role=clean_line(role))

    # --- who asks what -----------------------------------------------------------------------------------------------

    def _ask_probe(self) -> Asking:
        self.take_probe((yield question("probe", self.version)).rows)

    def take_probe(self, answer: Rows | Refusal) -> None:
        """What this role can see, and where the statements are."""
        if isinstance(answer, Refusal):
            self.source = Source(unavailable=str(answer))
            return
        self.role = answer[0]
        source = source_of(self.role)
        if self.source is None or source != self.source:
            self._new_source()
        self.source = source

    def _ask_builds(self) -> Asking:
        pulse = self._pulse()
        if pulse is not None and pulse.builds > 0:
            self.builds = builds_of((yield question("builds", self.version, remedy=self.grant())).rows)

    def _ask_replication(self) -> Asking:
        answers: dict[str, Rows | Refusal] = {}
        for wanted in replication_questions(self.version, self.grant()):
            answers[wanted.name] = (yield wanted).rows
        self.replication = replication_of(answers)
        pulse = self._pulse()
        self.replication_at = pulse.at if pulse is not None else None  # of the refresh before, so older rather than newer
        followed = self.replication.standbys or self.replication.slots or self.replication.replay_bytes is not None
        self._replication_pace.interval_s = _REPLICATION_S if followed else _NOBODY_FOLLOWS_S

    def _ask_health(self) -> Asking:
        self._reader.source = self.source if self.source and self.source.schema else None
        yield from self._with_tables(self._reader.round())
        refused = [str(r) for name, r in self._reader.known.refused.items() if name in _ESSENTIAL]
        self.health_note = "; ".join(refused)  # the last good one stays, with its own time

    def _with_tables(self, asking: Asking) -> Asking:
        """The same questions; the counters of tables go onto their tape the moment they come."""
        wanted = next(asking, None)
        while wanted is not None:
            answer = yield wanted
            try:
                wanted = asking.send(answer)
            except StopIteration:
                wanted = None
            pulse = self._pulse()
            if self._reader.known.tables is not self._tables_seen and pulse is not None:
                self._tables_seen = self._reader.known.tables
                self.tapes.take_tables(pulse.at.timestamp(), self._reader.known.tables)

    def _ask_databases(self) -> Asking:
        if not self.tapes.wants_databases(time.monotonic()):
            return
        answer = (yield question("databases", self.version, remedy=self.grant())).rows
        if not isinstance(answer, Refusal):
            self.tapes.take_databases(answer)

    def _ask_writers(self) -> Asking:
        if self.source is not None and self.source.schema:
            self.writes.writers.take((yield statements_question("write_statements", self.source, self.grant())).rows)

    def writing(self) -> Writing:
        """How the database is written, as far as it was read."""
        refused = self._reader.known.refused.get("tables")
        return self.writes.now(self.tapes.tables.pieces, str(refused) if refused else "")

    def _judge(self) -> None:
        self.health = health_from(self._reader.known, self.settings)

    # --- what others found out -----------------------------------------------------------------------------------------

    @property
    def index_facts(self) -> list[IndexFacts]:
        """The indexes as they were read last; empty before that."""
        return list(self._reader.known.indexes.values())

    def note_standbys(self, uses: tuple[StandbyUse, ...] | None) -> None:
        """What the standbys said of their scans: the findings are judged anew with it."""
        self._reader.known.standbys = uses
        if self._reader.known.complete:
            self._judge()

    def note_bloat(self, found: Mapping[int, Bloat]) -> None:
        """Estimates of bloat, by oid."""
        self._reader.known.bloat.update(found)
        if self._reader.known.complete:
            self._judge()

    def unseen(self) -> list[str]:
        """What of this cannot be seen, each with what would show it."""
        found = [self.health_note] if self.health_note else []
        if self.replication is not None:
            hidden = sum(1 for s in self.replication.standbys if not s.visible)
            if hidden:
                found.append(f"standbys: how far behind {hidden} of them are is hidden ({self.grant()})")
        return found
