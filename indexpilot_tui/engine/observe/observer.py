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

import psycopg

from indexpilot_tui.engine.observe.activity import NOT_MEASURED, activity_of
from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.cost import Book, clock_of
from indexpilot_tui.engine.observe.counters import Interval, read_of
from indexpilot_tui.engine.observe.hotspots import HotspotTracker
from indexpilot_tui.engine.observe.indexes.bloat import Bloat
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.situation import StandbyUse
from indexpilot_tui.engine.observe.model import Cost, Hotspots, Observation, QueryDetail
from indexpilot_tui.engine.observe.node import Looked
from indexpilot_tui.engine.observe.pace import Pace
from indexpilot_tui.engine.observe.pulse import Pulse, Rates, pulse_of, rates_between
from indexpilot_tui.engine.observe.sampler import Sampler
from indexpilot_tui.engine.observe.signals import Signals, pulse_question
from indexpilot_tui.engine.observe.slow import Slow
from indexpilot_tui.engine.observe.source import Source, statements_question
from indexpilot_tui.engine.observe.spots import Timed
from indexpilot_tui.engine.observe.texts import ALL, TextWish, at_work
from indexpilot_tui.engine.postgres.session import GRACE_S, Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings

FIRST_INTERVAL_S = 0.4  # between the two reads of the first refresh: the first screen has rates, not lifetime averages
WIDEST_S = 60.0  # the interval never grows past this
_FORGET_S = 300.0  # a refused question is asked again after this: a GRANT may have come


@dataclass(slots=True)
class _Round:
    """What one refresh has found."""

    pulse: Pulse | Refusal | None = None
    interval: Interval | Refusal | None = None


class Watcher:
    """Refreshes the observation of one target. Keeps what a refresh needs of the ones before; opens no session.

    Another server, database or login begins a new epoch. One refresh at a time. `cores`: of the server's machine, where
    known.
    """

    def __init__(self, settings: Settings, cores: int | None = None) -> None:
        self.settings, self._cores = settings, cores
        observe = settings.observe
        self._budget = observe.server_ms_per_minute_budget
        self._asker = Asker(deadline_s=observe.statement_timeout_ms / 1000 + GRACE_S)
        self._book = Book(self._asker, self._budget)
        self._looked = Looked()
        # of the budget (1 ms a refresh is half of it): the pulse a quarter at most, the counters three tenths
        self._pulse_pace = Pace(observe.interval_seconds, 0.25)
        self._counters_pace = Pace(0.0, 0.3)
        self._begin("", 0)

    def _begin(self, user: str, version: int) -> None:
        """Nothing is known of the server yet."""
        self._tracker = HotspotTracker(own_user=user)
        self._slow = Slow(self.settings, version, lambda: self._pulse, self._statements_moved)
        self._last: Observation | None = None
        self._pulse: Pulse | None = None
        self._rates = Rates()
        self._interval: Interval | Refusal | None = None
        self._shown: tuple[Interval, Hotspots] | None = None
        self._forget_due = time.monotonic() + _FORGET_S
        self._sampler = Sampler()
        self._texts, self._learned = TextWish(self._budget), False
        self._counters_pace.due = 0.0

    def _statements_moved(self) -> None:
        self._interval, self._counters_pace.due = None, 0.0
        self._tracker.previous, self._sampler = None, Sampler()  # samples and counters are not compared
        self._tracker.ledger.cut()

    @property
    def next_delay(self) -> float:
        """Seconds until the next refresh: the set interval, or longer where the pulse alone costs more than its part."""
        interval = self.settings.observe.interval_seconds
        return min(max(interval, WIDEST_S), self._pulse_pace.period_s(self._budget))

    def detail(self, queryid: int) -> QueryDetail:
        """Totals and history of one statement. Raises UsageError when it was never among the busy ones."""
        return self._tracker.detail(queryid)

    def mark(self, at: datetime | None) -> datetime | None:
        """From here on (None: now) changes of the hotspots are looked for; gives the moment, None before the first
        reading."""
        return self._tracker.set_mark(at)

    def look_at_databases(self) -> None:
        """Somebody looks at the hotspots by database: they are counted for a while."""
        self._slow.tapes.want_databases(time.monotonic())
        self._slow.rota.hurry("databases")

    def hurry(self) -> None:
        """Ask everything that is not asked at every refresh soon, whatever its pace: somebody wants to see it now."""
        self._counters_pace.due = 0.0
        for name in ("health", "replication"):
            self._slow.rota.hurry(name)

    @property
    def index_facts(self) -> list[IndexFacts]:
        """The indexes as they were read last; empty before that."""
        return self._slow.index_facts

    def note_standbys(self, uses: tuple[StandbyUse, ...] | None) -> None:
        """What the standbys said of their scans."""
        self._slow.note_standbys(uses)

    def note_bloat(self, found: Mapping[int, Bloat]) -> None:
        """Estimates of bloat, by oid."""
        self._slow.note_bloat(found)

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
        first = self._slow.source is None
        if first:  # what has to be known before the rest can be asked
            answers = await self._asker.ask(session, [question("probe", session.facts.server_version)])
            self._book.spend(None)
            self._slow.take_probe(answers["probe"])
        done = await self._look(session)
        until = time.monotonic() + FIRST_INTERVAL_S
        while first and time.monotonic() < until and await self._ask_slow(session):
            pass  # the first screen wants all of it, and there is time until the second reading
        if isinstance(done.interval, Interval) and done.interval.seconds == 0:  # the first read, or after a restart
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            self._counters_pace.due = 0.0
            done = await self._look(session)
        if isinstance(done.pulse, Pulse) and done.pulse.builds and not self._slow.builds:
            self._slow.rota.hurry("builds")
            await self._ask_slow(session)
        hotspots = await self._hotspots(session, done.interval)
        pulse = done.pulse if isinstance(done.pulse, Pulse) else None
        return Observation(
            at=pulse.at if pulse else datetime.now(UTC),
            hotspots=hotspots,
            health=self._slow.health,
            activity=activity_of(pulse, self._rates) if pulse else NOT_MEASURED,
            builds=self._slow.builds,
            cost=self._charge(),
            refused=self._refused(done.pulse, hotspots),
            signals=self._signals(pulse) if pulse else None,
            book=self._tracker.book(hotspots, self._slow.tapes.now()) if self._tracker.previous is not None else None,
        )

    def _adopt(self, session: Session) -> None:
        """Begin anew where another server, database or login is looked at. Another session of the same is no news: a
        restart in between shows in the server's start time."""
        facts = session.facts
        if facts.server_pid != self._looked.backend:
            self._looked.backend = facts.server_pid
            self._slow.rota.restart()
        anew, became = self._looked.adopt(facts)
        if anew:
            self._asker.forget()
            self._begin(clean_line(facts.session_user, 128), facts.server_version)
        elif became:
            self._tracker.succession = became
            self._counters_pace.due = 0.0

    # --- round trips -----------------------------------------------------------------------------------------------

    async def _look(self, session: Session) -> _Round:
        """One round trip: a slow question, the counters when they are due, the pulse."""
        now = time.monotonic()
        if now >= self._forget_due:
            self._asker.forget()
            self._forget_due = now + _FORGET_S
        source = self._slow.source
        texts = self._texts.question(source, session.facts.server_version, now, self._asker.resting(ALL))
        turn = self._slow.rota.next(now) if texts is None else None
        slow = texts or (turn.pending if turn else None)
        questions = [slow] if slow else []
        counting = source is not None and bool(source.schema) and self._counters_pace.ready(now)
        if counting and source:
            questions += self._ask_counters(source)
        sampling = source is not None and not source.schema
        if sampling:
            questions.append(question("samples", session.facts.server_version))
        questions.append(pulse_question(session, self._slow.grant()))
        trips = self._asker.tally.round_trips
        answers = await self._asker.ask(session, questions)
        done = _Round(pulse=self._take_pulse(answers["pulse"]))
        clock = clock_of(answers, done.pulse, single=self._asker.tally.round_trips == trips + 1)
        self._book.spend(clock.total if clock else None)
        if counting:
            self._counters_pace.asked(now, clock.counters if clock else 0.0, self._budget)
            self._interval = self._take_counters(answers["statements"], answers["statements_info"])
        if sampling:
            self._interval = self._take_sample(answers["samples"], done.pulse)
        if texts:
            self._take_texts(texts, answers[texts.name], clock.slow if clock else 0.0, now)
        elif turn and slow:
            self._slow.rota.answered(turn, answers[slow.name], clock.slow if clock else 0.0, now)
        done.interval = self._interval
        return done

    async def _ask_slow(self, session: Session) -> bool:
        """A slow question in a round trip of its own, where there is time for it; False when none is due."""
        now = time.monotonic()
        turn = self._slow.rota.next(now)
        if turn is None or turn.pending is None:
            return False
        wanted = turn.pending
        answer, ms = await self._timed(session, wanted)
        self._slow.rota.answered(turn, answer, ms, now)
        return True

    async def _timed(self, session: Session, wanted: Question) -> tuple[Rows | Refusal, float]:
        """One question alone, with what it took by our clock."""
        start = time.perf_counter()
        answers = await self._asker.ask(session, [wanted])
        ms = (time.perf_counter() - start) * 1000
        self._book.spend(ms)
        return answers[wanted.name], ms

    def _take_pulse(self, answer: Rows | Refusal) -> Pulse | Refusal:
        if isinstance(answer, Refusal):
            return answer
        pulse = pulse_of(answer[0])
        self._slow.tapes.note_server(pulse.started)
        self._tracker.waits.add(pulse.at.timestamp(), pulse.waits)
        self._rates = rates_between(self._pulse, pulse)
        self._pulse = pulse
        self._pulse_pace.asked(0.0, pulse.ms, self._budget)
        if not pulse.builds:
            self._slow.builds = ()
        return pulse

    def _note_writes(self, interval: Interval | Refusal | None, source: Source) -> None:
        refused = str(interval) if isinstance(interval, Refusal) else source.unavailable
        read = self._tracker.previous
        known = None if isinstance(interval, Refusal) else interval
        self._slow.writes.note(known, read.at if read else None, refused)

    def _signals(self, pulse: Pulse) -> Signals:
        slow = self._slow
        times_io = slow.timed.io if slow.role else None
        return Signals(
            pulse, self._rates, slow.replication, self._cores, slow.replication_at, slow.writing(), times_io, slow.grant()
        )

    # --- the counters of statements ----------------------------------------------------------------------------------

    def _ask_counters(self, source: Source) -> list[Question]:
        grant = self._slow.grant()
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
        self._tracker.timed = self._slow.timed
        read = read_of(
            counters[0]["rows"],
            at=info[0]["done"],
            server_started=self._pulse.started,
            reset_at=info[0]["stats_reset"],
            evicted=info[0]["dealloc"],
        )
        return self._tracker.note(read)

    def _take_sample(self, rows: Rows | Refusal, pulse: Pulse | Refusal | None) -> Interval | Refusal | None:
        self._tracker.timed = Timed(sampled=True)
        if isinstance(rows, Refusal) or not isinstance(pulse, Pulse):
            return rows if isinstance(rows, Refusal) else None
        interval = self._tracker.note(self._sampler.take(rows, pulse))
        self._tracker.learn(self._sampler.texts)
        return interval

    async def _hotspots(self, session: Session, interval: Interval | Refusal | None) -> Hotspots:
        source = self._slow.source or Source()
        self._note_writes(interval, source)
        if interval is None or isinstance(interval, Refusal):
            reason = source.unavailable if interval is None else str(interval)
            return Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
        now = time.monotonic()
        self._texts.wanted = wanted = self._tracker.missing_texts(interval) if source.schema else []
        self._texts.fresh = any(queryid not in self._tracker.asked for queryid in wanted)
        if wanted and (self._shown is None or self._tracker.blank(interval)):
            # a screen without any text has them at once (the first one, that after a restart), others with the next refresh
            wish = self._texts.question(source, session.facts.server_version, now, self._asker.resting(ALL))
            if wish is not None:
                self._take_texts(wish, *await self._timed(session, wish), now)
        if self._shown is None or self._shown[0] is not interval or self._learned:
            self._learned = False
            new = self._shown is None or self._shown[0] is not interval
            made = self._tracker.hotspots(interval, record=new)
            if not source.schema:
                made = replace(made, available=False, unavailable=source.unavailable, sampled=True)
            self._shown = (interval, made)
        return self._shown[1]

    def _take_texts(self, wish: Question, answer: Rows | Refusal, ms: float, now: float) -> None:
        self._texts.asked(now, ms)
        if isinstance(answer, Refusal):
            return
        self._learned = True
        self._tracker.learn(answer if wish.name == ALL else at_work(answer))
        if wish.name == ALL:  # the server has told all that it has
            self._tracker.asked.update(self._texts.wanted)

    # --- what could not be seen, and what it cost --------------------------------------------------------------------

    def _refused(self, pulse: Pulse | Refusal | None, hotspots: Hotspots) -> tuple[str, ...]:
        """What cannot be seen, each with the GRANT that would show it."""
        found = [str(r) for r in self._asker.refused.values()]
        if isinstance(pulse, Pulse) and pulse.hidden:
            found.append(f"activity: {pulse.hidden} sessions of other roles are hidden ({self._slow.grant()})")
        if hotspots.hidden:
            found.append(f"statements: {hotspots.hidden} entries of other roles are hidden ({self._slow.grant()})")
        return tuple(dict.fromkeys([*found, *self._slow.unseen()]))

    def _charge(self) -> Cost:
        paces = [("refresh", self._pulse_pace), ("statements", self._counters_pace)]
        paces += [(task.name, task.pace) for task in self._slow.rota.tasks]
        return self._book.charge(self.settings.observe.interval_seconds, paces)


def _nothing(reason: str) -> Observation:
    """What is known before the first answer: nothing, and it says so."""
    hotspots = Hotspots((), 0.0, 0.0, 0, 0, None, available=False, unavailable=reason)
    return Observation(datetime.now(UTC), hotspots, None, NOT_MEASURED, (), Cost(0, 0, 0.0, 0.0, 0.0))
