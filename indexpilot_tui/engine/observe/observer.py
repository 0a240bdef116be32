"""The Watcher: one refresh after another on a monitor session, each as cheap as it can be.

A refresh is one round trip of at most four statements: the pulse, the counters of statements (when due, behind the time of
their reset), and one of the slow questions, whose turn it is. What it costs the server the server itself tells: each of
our one-row questions says when the server turned to it and when it was done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.observe.activity import NOT_MEASURED, activity_of, builds_of
from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.counters import Interval, read_of
from indexpilot_tui.engine.observe.health import health_from
from indexpilot_tui.engine.observe.hotspots import HotspotTracker
from indexpilot_tui.engine.observe.indexes.reader import HealthReader
from indexpilot_tui.engine.observe.model import BuildProgress, Cost, Hotspots, IndexHealth, Observation, QueryDetail
from indexpilot_tui.engine.observe.pace import Pace, Spending
from indexpilot_tui.engine.observe.pulse import Pulse, Rates, pulse_of, rates_between
from indexpilot_tui.engine.observe.replication import Replication, replication_of
from indexpilot_tui.engine.observe.rota import Asking, Rota, Task
from indexpilot_tui.engine.observe.signals import GRANT_MONITOR, Signals, pulse_question, replication_questions
from indexpilot_tui.engine.observe.source import Source, source_of, statements_question
from indexpilot_tui.engine.postgres.session import GRACE_S, Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings

FIRST_INTERVAL_S = 0.4  # between the two reads of the first refresh: the first screen has rates, not lifetime averages
WIDEST_S = 60.0  # the interval never grows past this
TEXTS_S = 10.0  # texts are asked for again after this at the latest, whatever they cost: a hotspot without one is none
_PROBE_S = 30.0
_REPLICATION_S = 6.0
_ESSENTIAL = ("health_facts", "index_state", "indexes")  # without these there is no index health
_FORGET_S = 300.0  # a refused question is asked again after this: a GRANT may have come


@dataclass(slots=True)
class _Round:
    """What one refresh has found so far."""

    pulse: Pulse | Refusal | None = None
    interval: Interval | Refusal | None = None
    server_ms: float = 0.0


class Watcher:
    """Refreshes the observation of one target. Keeps what a refresh needs of the ones before; opens no session.

    Another server, database or login begins a new epoch. One refresh at a time. `cores`: of the server's machine, where
    known.
    """

    def __init__(self, settings: Settings, cores: int | None = None) -> None:
        self.settings, self._cores = settings, cores
        self._session: Session | None = None
        observe = settings.observe
        self._budget = observe.server_ms_per_minute_budget
        self._asker = Asker(deadline_s=observe.statement_timeout_ms / 1000 + GRACE_S)
        self._tracker = HotspotTracker()
        self._identity: tuple[str, int, str] | None = None
        self._backend = 0
        self._source: Source | None = None
        self._role: Mapping[str, Any] = {}
        self._last: Observation | None = None
        self._pulse: Pulse | None = None
        self._rates = Rates()
        self._interval: Interval | Refusal | None = None
        self._replication: Replication | None = None
        self._health: IndexHealth | None = None
        self._health_note = ""
        self._builds: tuple[BuildProgress, ...] = ()
        # halves of the budget: the pulse a quarter, counters a quarter; the slow questions share the other half
        self._pulse_pace = Pace(observe.interval_seconds, 0.25)
        self._counters_pace = Pace(0.0, 0.4)
        self._texts_pace = Pace(0.0, 0.1)
        self._rota = Rota(self._budget)
        self._forget_due = 0.0
        self._spending = Spending(time.monotonic())
        self._booked_statements, self._booked_trips, self._booked_ms = 0, 0, 0.0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the server yet."""
        now, observe = time.monotonic(), self.settings.observe
        self._source = self._last = self._health = self._pulse = self._interval = self._replication = None
        self._shown: tuple[Interval, Hotspots] | None = None
        self._health_note, self._builds, self._rates = "", (), Rates()
        self._reader = HealthReader(self._version, self._budget, self._take_health)
        self._forget_due = now + _FORGET_S
        for pace in (self._counters_pace, self._texts_pace):
            pace.due = 0.0
        self._rota.tasks = [
            Task("builds", Pace(observe.interval_seconds, 0.05), self._ask_builds, urgent=True),
            Task("health", Pace(observe.health_interval_seconds, 0.2), self._ask_health),
            Task("replication", Pace(_REPLICATION_S, 0.1), self._ask_replication),
            Task("probe", Pace(_PROBE_S, 0.05, due=now + _PROBE_S), self._ask_probe),
        ]

    @property
    def next_delay(self) -> float:
        """Seconds until the next refresh: the set interval, or longer where the pulse alone costs more than its part."""
        interval = self.settings.observe.interval_seconds
        return min(max(interval, WIDEST_S), self._pulse_pace.period_s(self._budget))

    def detail(self, queryid: int) -> QueryDetail:
        """Totals and history of one statement. Raises UsageError when it was never among the busy ones."""
        return self._tracker.detail(queryid)

    def hurry(self) -> None:
        """Ask everything that is not asked at every refresh soon, whatever its pace: somebody wants to see it now."""
        self._counters_pace.due = 0.0
        for name in ("health", "replication"):
            self._rota.hurry(name)

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
        first = self._source is None
        if first:
            await self._first(session)
        done = await self._look(session)
        until = time.monotonic() + FIRST_INTERVAL_S
        while first and time.monotonic() < until and await self._slow(session):
            pass  # the first screen wants all of it, and there is time until the second reading
        if isinstance(done.interval, Interval) and done.interval.seconds == 0:  # the first read, or after a restart
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            self._counters_pace.due = 0.0
            done = await self._look(session)
        if isinstance(done.pulse, Pulse) and done.pulse.builds and not self._builds:
            self._rota.hurry("builds")
            await self._slow(session)
        hotspots = await self._hotspots(session, done.interval)
        cost = self._charge()
        pulse = done.pulse if isinstance(done.pulse, Pulse) else None
        return Observation(
            at=pulse.at if pulse else datetime.now(UTC),
            hotspots=hotspots,
            health=self._health,
            activity=activity_of(pulse, self._rates) if pulse else NOT_MEASURED,
            builds=self._builds,
            cost=cost,
            refused=self._refused(done.pulse, hotspots),
            signals=Signals(pulse, self._rates, self._replication, self._cores) if pulse else None,
        )

    def _adopt(self, session: Session) -> None:
        """Begin anew where another server, database or login is looked at. Another session of the same is no news: a
        restart in between shows in the server's start time."""
        facts = session.facts
        self._session = session
        if facts.server_pid != self._backend:
            self._backend = facts.server_pid
            self._rota.restart()
        identity = (facts.system_identifier, facts.database_oid, facts.session_user)
        if identity == self._identity:
            return
        self._identity = identity
        self._asker.forget()
        self._tracker = HotspotTracker(own_user=clean_line(facts.session_user, 128))
        self._begin()

    # --- one round trip --------------------------------------------------------------------------------------------

    async def _first(self, session: Session) -> None:
        """What has to be known before the rest can be asked."""
        answers = await self._asker.ask(session, [question("probe", self._version)])
        self._spend(None)
        self._take_probe(answers["probe"])

    async def _look(self, session: Session) -> _Round:
        """One round trip: a slow question, the counters when they are due, the pulse."""
        now = time.monotonic()
        if now >= self._forget_due:
            self._asker.forget()
            self._forget_due = now + _FORGET_S
        turn = self._rota.next(now)
        slow = turn.pending if turn else None
        questions = [slow] if slow else []
        counting = bool(self._source and self._source.schema) and self._counters_pace.ready(now)
        if counting and self._source:
            questions += self._ask_counters(self._source)
        questions.append(pulse_question(session, self._grant()))
        trips = self._asker.tally.round_trips
        answers = await self._asker.ask(session, questions)
        done = _Round(pulse=self._take_pulse(answers["pulse"]))
        clock = _clock(answers, done.pulse, single=self._asker.tally.round_trips == trips + 1)
        self._spend(clock.total if clock else None)
        if counting:
            self._counters_pace.asked(now, clock.counters if clock else 0.0, self._budget)
            self._interval = self._take_counters(answers["statements"], answers["statements_info"])
        if turn and slow:
            self._rota.answered(turn, answers[slow.name], clock.slow if clock else 0.0, now)
        done.interval = self._interval
        return done

    async def _slow(self, session: Session) -> bool:
        """A slow question in a round trip of its own, where there is time for it; False when none is due."""
        now = time.monotonic()
        turn = self._rota.next(now)
        if turn is None or turn.pending is None:
            return False
        name = turn.pending.name
        start = time.perf_counter()
        answers = await self._asker.ask(session, [turn.pending])
        ms = (time.perf_counter() - start) * 1000
        self._spend(ms)
        self._rota.answered(turn, answers[name], ms, now)
        return True

    def _spend(self, server_ms: float | None) -> None:
        """Book the round trips since the last call; without the server's own figure, with ours."""
        tally = self._asker.take_tally()
        self._booked_statements += tally.statements
        self._booked_trips += tally.round_trips
        self._booked_ms += tally.ms if server_ms is None else server_ms

    def _take_pulse(self, answer: Rows | Refusal) -> Pulse | Refusal:
        if isinstance(answer, Refusal):
            return answer
        pulse = pulse_of(answer[0])
        self._rates = rates_between(self._pulse, pulse)
        self._pulse = pulse
        self._pulse_pace.asked(0.0, pulse.ms, self._budget)
        if not pulse.builds:
            self._builds = ()
        return pulse

    # --- the counters of statements ----------------------------------------------------------------------------------

    def _ask_counters(self, source: Source) -> list[Question]:
        grant = self._grant()
        return [
            statements_question("statements_info", source, grant),
            replace(statements_question("statements", source, grant), bulk=True),
        ]

    def _take_counters(self, counters: Rows | Refusal, info: Rows | Refusal) -> Interval | Refusal | None:
        for answer in (counters, info):
            if isinstance(answer, Refusal):  # without the reset's time nothing can be said of an interval
                return answer
        if isinstance(counters, Refusal) or isinstance(info, Refusal) or self._pulse is None:
            return None
        read = read_of(
            counters[0]["rows"],
            at=info[0]["done"],
            server_started=self._pulse.started,
            reset_at=info[0]["stats_reset"],
            evicted=info[0]["dealloc"],
        )
        return self._tracker.note(read)

    async def _hotspots(self, session: Session, interval: Interval | Refusal | None) -> Hotspots:
        if interval is None or isinstance(interval, Refusal):
            reason = self._source.unavailable if interval is None and self._source else str(interval)
            return Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
        now = time.monotonic()
        missing = self._tracker.missing_texts(interval)
        if missing and self._texts_pace.ready(now):
            texts = statements_question("texts", self._source or Source(), "", queryids=missing)
            start = time.perf_counter()
            answer = (await self._asker.ask(session, [texts]))["texts"]
            ms = (time.perf_counter() - start) * 1000
            self._spend(ms)
            self._texts_pace.asked(now, ms, self._budget)
            self._texts_pace.due = min(self._texts_pace.due, now + TEXTS_S)
            if not isinstance(answer, Refusal):
                self._tracker.learn(answer)
        if self._shown is None or self._shown[0] is not interval or missing:
            new = self._shown is None or self._shown[0] is not interval
            self._shown = (interval, self._tracker.hotspots(interval, record=new))
        return self._shown[1]

    # --- the slow questions --------------------------------------------------------------------------------------------

    @property
    def _version(self) -> int:
        return self._session.facts.server_version if self._session else 0

    def _ask_probe(self) -> Asking:
        self._take_probe((yield question("probe", self._version)))

    def _take_probe(self, answer: Rows | Refusal) -> None:
        if isinstance(answer, Refusal):
            self._source = Source(unavailable=str(answer))
            return
        self._role = answer[0]
        source = source_of(self._role)
        if self._source is None or source != self._source:
            self._interval, self._counters_pace.due = None, 0.0
        self._source = source

    def _ask_builds(self) -> Asking:
        if self._pulse is not None and self._pulse.builds > 0:
            self._builds = builds_of((yield question("builds", self._version, remedy=self._grant())))

    def _ask_health(self) -> Asking:
        self._reader.version = self._version
        yield from self._reader.round()
        refused = [str(r) for name, r in self._reader.known.refused.items() if name in _ESSENTIAL]
        self._health_note = "; ".join(refused)  # the last good one stays, with its own time

    def _take_health(self) -> None:
        self._health = health_from(self._reader.known, self.settings)

    def _ask_replication(self) -> Asking:
        answers: dict[str, Rows | Refusal] = {}
        for wanted in replication_questions(self._version, self._grant()):
            answers[wanted.name] = yield wanted
        self._replication = replication_of(answers)

    # --- what could not be seen, and what it cost --------------------------------------------------------------------

    def _refused(self, pulse: Pulse | Refusal | None, hotspots: Hotspots) -> tuple[str, ...]:
        """What cannot be seen, each with the GRANT that would show it."""
        found = [str(r) for r in self._asker.refused.values()]
        if isinstance(pulse, Pulse) and pulse.hidden:
            found.append(f"activity: {pulse.hidden} sessions of other roles are hidden ({self._grant()})")
        if hotspots.hidden:
            found.append(f"statements: {hotspots.hidden} entries of other roles are hidden ({self._grant()})")
        if self._health_note:
            found.append(self._health_note)
        if self._replication is not None:
            hidden = sum(1 for s in self._replication.standbys if not s.visible)
            if hidden:
                found.append(f"standbys: what is behind on {hidden} of them is hidden ({self._grant()})")
        return tuple(dict.fromkeys(found))

    def _grant(self) -> str:
        role = sql.Identifier(str(self._role.get("role_name") or "the_role_of_this_console")).as_string()
        return GRANT_MONITOR.format(role=clean_line(role))

    def _charge(self) -> Cost:
        now = time.monotonic()
        statements, trips, ms = self._booked_statements, self._booked_trips, self._booked_ms
        self._booked_statements, self._booked_trips, self._booked_ms = 0, 0, 0.0
        self._spending.add(now, statements, ms)
        a_minute = self._spending.per_minute(now, self.next_delay)
        slower = tuple(
            (name, pace.period_s(self._budget))
            for name, pace in (
                ("refresh", self._pulse_pace),
                ("statements", self._counters_pace),
                *((task.name, task.pace) for task in self._rota.tasks),
            )
            if pace.period_s(self._budget) > max(pace.interval_s, self.settings.observe.interval_seconds)
        )
        return Cost(statements, trips, ms, *a_minute, budget_ms_per_min=self._budget, slower=slower)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Where the server's time went in one round trip, in ms."""

    slow: float
    counters: float
    total: float


def _clock(answers: Mapping[str, Rows | Refusal], pulse: Pulse | Refusal | None, *, single: bool) -> _Clock | None:
    """From the server's own marks; None where they are not of one round trip."""
    if not isinstance(pulse, Pulse) or not single:
        return None
    info = answers.get("statements_info")
    until_pulse = max(0.0, pulse.round_ms - pulse.ms)
    if not info or isinstance(info, Refusal):
        return _Clock(until_pulse, 0.0, pulse.round_ms)
    counters = max(0.0, (pulse.began - info[0]["began"]).total_seconds() * 1000)
    return _Clock(max(0.0, until_pulse - counters), counters, pulse.round_ms)


def _nothing(reason: str) -> Observation:
    """What is known before the first answer: nothing, and it says so."""
    hotspots = Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
    return Observation(datetime.now(UTC), hotspots, None, NOT_MEASURED, (), Cost(0, 0, 0.0, 0.0, 0.0))
