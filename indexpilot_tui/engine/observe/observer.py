"""The Watcher: one refresh after another on a monitor session, each as cheap as it can be."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.observe.activity import GRANT_MONITOR, NOT_MEASURED, activity_of, builds_of
from indexpilot_tui.engine.observe.ask import PACKAGE, Asker, Question, Refusal, Rows, Tally, question
from indexpilot_tui.engine.observe.counters import Interval, read_of
from indexpilot_tui.engine.observe.health import HealthUnreadable, health_of, health_questions
from indexpilot_tui.engine.observe.hotspots import HotspotTracker
from indexpilot_tui.engine.observe.model import Activity, Cost, Hotspots, IndexHealth, Observation, QueryDetail
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings

FIRST_INTERVAL_S = 0.4  # between the two reads of the first refresh: the first screen has rates, not lifetime averages
WIDEST = 15.0  # the interval never grows past this many times its setting, nor past a minute
_COST_WINDOW_S = 60.0
_FORGET_S = 300.0  # a refused question is asked again after this: a GRANT may have come
# the extension's version decides, not the server's: an upgraded cluster keeps the old one until ALTER EXTENSION UPDATE
_EXTENSION = (((1, 9), 140000), ((1, 8), 130000))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the statements come from: the extension's schema and the variant of the question, or why there is none."""

    schema: str = ""
    variant: int = 0
    unavailable: str = ""


class Watcher:
    """Refreshes the observation of one target. Keeps what a refresh needs of the ones before; holds no session.

    Another server, database or login begins a new epoch. One refresh at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._asker = Asker()
        self._tracker = HotspotTracker()
        self._identity: tuple[str, int, str] | None = None
        self._source: Source | None = None
        self._role: Mapping[str, Any] = {}
        self._last: Observation | None = None
        self._health: IndexHealth | None = None
        self._health_due = 0.0
        self._forget_due = time.monotonic() + _FORGET_S
        self._health_note = ""
        self._xacts: tuple[datetime, int] | None = None
        self._costs: deque[tuple[float, Tally]] = deque()
        self._began = time.monotonic()

    @property
    def next_delay(self) -> float:
        """Seconds until the next refresh: the set interval, or longer when looking costs more than its budget a minute."""
        interval = self.settings.observe.interval_seconds
        budget = self.settings.observe.server_ms_per_minute_budget
        spent = self._per_minute()[1]
        factor = min(WIDEST, max(1.0, spent / budget))
        return min(max(interval, 60.0), interval * factor)

    def detail(self, queryid: int) -> QueryDetail:
        """Totals and history of one statement. Raises UsageError when it was never among the busy ones."""
        return self._tracker.detail(queryid)

    async def refresh(self, session: Session) -> Observation:
        """Look once. Never raises for a server that is gone or refuses: `Observation.error` and `refused` tell."""
        try:
            observation = await self._refresh(session)
        except (IndexPilotError, psycopg.Error) as exc:
            message = clean_line(exc.message if isinstance(exc, IndexPilotError) else str(exc), 300)
            base = self._last or _nothing(message)
            return replace(base, error=message)
        self._last = observation
        return observation

    async def _refresh(self, session: Session) -> Observation:
        self._adopt(session)
        if self._source is None:
            self._take_probe((await self._asker.ask(session, [question("probe", session.facts.server_version)]))["probe"])
        interval, activity_row, builds = await self._look(session)
        if isinstance(interval, Interval) and interval.seconds == 0:  # the first read, or the first after a restart
            await asyncio.sleep(FIRST_INTERVAL_S)
            interval, activity_row, builds = await self._look(session)
        hotspots = await self._hotspots(session, interval)
        cost = self._charge()
        return Observation(
            at=activity_row["at"] if isinstance(activity_row, dict) else datetime.now(UTC),
            hotspots=hotspots,
            health=self._health,
            activity=self._activity(activity_row),
            builds=builds_of(builds),
            cost=cost,
            refused=self._refused(activity_row, hotspots),
        )

    def _adopt(self, session: Session) -> None:
        """Begin anew where another server, database or login is looked at. Another session of the same is no news: a
        restart in between shows in the server's start time."""
        facts = session.facts
        identity = (facts.system_identifier, facts.database_oid, facts.session_user)
        if identity == self._identity:
            return
        self._identity = identity
        self._asker.forget()
        self._tracker = HotspotTracker(own_user=clean_line(facts.session_user, 128))
        self._source = self._last = self._health = self._xacts = None
        self._health_due = 0.0

    def _take_probe(self, answer: Rows | Refusal) -> None:
        if isinstance(answer, Refusal):
            self._source = Source(unavailable=str(answer))
            return
        self._role = answer[0]
        self._source = source_of(self._role)

    async def _look(self, session: Session) -> tuple[Interval | Refusal | None, dict[str, Any] | Refusal, Rows | Refusal]:
        """One round trip: activity, builds, counters, and health when it is due."""
        version = session.facts.server_version
        grant = GRANT_MONITOR.format(role=self._grantee())
        questions = [question("activity", version, remedy=grant), question("builds", version, remedy=grant)]
        source = self._source or Source()
        if source.schema:
            if source.variant >= 140000:
                questions.append(statements_question("statements_info", source, grant))
            questions.append(replace(statements_question("statements", source, grant), bulk=True))
        due = time.monotonic() >= self._health_due
        if due:
            if time.monotonic() >= self._forget_due:
                self._asker.forget()
                self._forget_due = time.monotonic() + _FORGET_S
            questions += [question("probe", version), *health_questions(version)]
        answers = await self._asker.ask(session, questions)
        if due:
            self._take_probe(answers["probe"])
            self._take_health(answers)
        activity = answers["activity"]
        row = activity if isinstance(activity, Refusal) else activity[0]
        interval = self._take_counters(answers.get("statements"), answers.get("statements_info"), row)
        return interval, row, answers["builds"]

    def _take_health(self, answers: Mapping[str, Rows | Refusal]) -> None:
        self._health_due = time.monotonic() + self.settings.observe.health_interval_seconds
        health = health_of(answers, self.settings)
        if isinstance(health, HealthUnreadable):
            self._health_note = health.reason  # the last good one stays, with its own time
            return
        self._health, self._health_note = health, ""

    def _take_counters(
        self, counters: Rows | Refusal | None, info: Rows | Refusal | None, activity: dict[str, Any] | Refusal
    ) -> Interval | Refusal | None:
        for answer in (counters, info, activity):
            if isinstance(answer, Refusal):  # without reset and start times nothing can be said of an interval
                return answer
        if counters is None or isinstance(activity, Refusal) or isinstance(counters, Refusal):
            return None
        known = info[0] if info and not isinstance(info, Refusal) else {"stats_reset": None, "dealloc": None}
        read = read_of(
            counters[0]["rows"],
            at=activity["at"],
            server_started=activity["started"],
            reset_at=known["stats_reset"],
            evicted=known["dealloc"],
        )
        return self._tracker.note(read)

    async def _hotspots(self, session: Session, interval: Interval | Refusal | None) -> Hotspots:
        if interval is None or isinstance(interval, Refusal):
            reason = self._source.unavailable if interval is None and self._source else str(interval)
            return Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
        missing = self._tracker.missing_texts(interval)
        if missing:
            source = self._source or Source()
            texts = statements_question("texts", source, "", queryids=missing)
            answer = (await self._asker.ask(session, [texts]))["texts"]
            if not isinstance(answer, Refusal):
                self._tracker.learn(answer)
        return self._tracker.hotspots(interval)

    def _activity(self, row: dict[str, Any] | Refusal) -> Activity:
        if isinstance(row, Refusal):
            return NOT_MEASURED
        rate = None
        if self._xacts is not None:
            seconds = (row["at"] - self._xacts[0]).total_seconds()
            grown = row["xacts"] - self._xacts[1]
            rate = grown / seconds if seconds > 0 and grown >= 0 else None
        if self._xacts is None or row["at"] != self._xacts[0]:
            self._xacts = (row["at"], row["xacts"])
        return activity_of(row, rate)

    def _refused(self, activity: dict[str, Any] | Refusal, hotspots: Hotspots) -> tuple[str, ...]:
        """What cannot be seen, each with the GRANT that would show it."""
        found = [str(r) for r in self._asker.refused.values()]
        grant = GRANT_MONITOR.format(role=self._grantee())
        if isinstance(activity, Refusal):
            found.append(str(activity))
        elif activity["hidden"]:
            found.append(f"activity: {activity['hidden']} sessions of other roles are hidden ({grant})")
        if hotspots.hidden:
            found.append(f"statements: {hotspots.hidden} entries of other roles are hidden ({grant})")
        if self._health_note:
            found.append(self._health_note)
        return tuple(dict.fromkeys(found))

    def _grantee(self) -> str:
        return clean_line(sql.Identifier(str(self._role.get("role_name") or "the_role_of_this_console")).as_string())

    def _charge(self) -> Cost:
        tally, now = self._asker.take_tally(), time.monotonic()
        self._costs.append((now, tally))
        while self._costs and self._costs[0][0] < now - _COST_WINDOW_S:
            self._costs.popleft()
        statements, ms = self._per_minute()
        return Cost(tally.statements, tally.round_trips, tally.ms, statements, ms)

    def _per_minute(self) -> tuple[float, float]:
        """Statements and ms a minute, from the refreshes of the last minute; before a minute has passed, from their mean
        at the set interval (the costly first one is not taken for the rule)."""
        if not self._costs:
            return 0.0, 0.0
        if time.monotonic() - self._began >= _COST_WINDOW_S:
            return float(sum(t.statements for _, t in self._costs)), sum(t.ms for _, t in self._costs)
        usual = [t for _, t in self._costs][1:] or [self._costs[0][1]]
        scale = 60.0 / self.settings.observe.interval_seconds / len(usual)
        return sum(t.statements for t in usual) * scale, sum(t.ms for t in usual) * scale


def _nothing(reason: str) -> Observation:
    """What is known before the first answer: nothing, and it says so."""
    hotspots = Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
    return Observation(datetime.now(UTC), hotspots, None, NOT_MEASURED, (), Cost(0, 0, 0.0, 0.0, 0.0))


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
