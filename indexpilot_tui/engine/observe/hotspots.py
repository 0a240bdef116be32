"""Where the time goes: hotspots of the last interval and the history of each statement in this session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexpilot_tui.engine.observe.book import SHOWN, Book, Names, Spans, Tapes
from indexpilot_tui.engine.observe.counters import NOTHING, Counters, Interval, Key, Read, between
from indexpilot_tui.engine.observe.history import Histories
from indexpilot_tui.engine.observe.ledger import Ledger
from indexpilot_tui.engine.observe.model import Hotspot, Hotspots, QueryDetail
from indexpilot_tui.engine.observe.spots import Timed, figures
from indexpilot_tui.engine.observe.waits import WaitSamples
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.errors import UsageError

TREND = 24  # intervals of the sparkline
SEEN = 20_000  # statements of which the times of the first and last call are kept

MARKER = "/* indexpilot */"
_OURS = re.compile(r"\bindexpilot\.|\bpg_catalog\.", re.IGNORECASE)
_UTILITY = re.compile(r"\s*(?:/\*.*?\*/\s*)*(?:set|show|reset|begin|commit|rollback|explain|discard)\b", re.I | re.S)

GONE, UNREAD = "(the server no longer has the text)", "(text not read yet)"


@dataclass(slots=True)
class Text:
    raw: str
    shown: str  # cleaned, one line
    users: dict[int, str]


@dataclass(slots=True)
class Seen:
    """When a statement was first (None: it was there before) and last seen at work, in seconds since 1970."""

    first: float | None
    last: float


@dataclass(slots=True)
class HotspotTracker:
    """Remembers the last read, the texts and the histories of one target. Not shared between targets. `succession`: what
    was noticed of another server in its place, to be told with the next interval."""

    own_user: str = ""
    previous: Read | None = None
    epoch_started: datetime | None = None
    epoch_note: str = ""
    texts: dict[int, Text] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)  # whose texts the server was asked for
    histories: Histories = field(default_factory=Histories)
    ledger: Ledger = field(default_factory=Ledger)
    waits: WaitSamples = field(default_factory=WaitSamples)
    seen: dict[int, Seen] = field(default_factory=dict)
    timed: Timed = field(default_factory=Timed)
    succession: str = ""
    _kept: Spans = field(default_factory=dict)
    _waiting: Mapping[int, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def note(self, read: Read) -> Interval:
        """Take a read in; gives the interval since the one before."""
        interval = between(self.previous, read)
        if self.succession:
            # whatever the counters look like, they are those of another server, or of one in another role
            interval = Interval(0.0, {}, True, self.succession)
            self.succession = ""
        if self.previous is None:
            self.epoch_started = read.reset_at or read.at
        if interval.new_epoch:
            self.epoch_started = read.reset_at or read.at
            self.ledger.cut()
            self._kept = {}
        if interval.note:
            self.epoch_note = interval.note
        if interval.seconds > 0:
            self.ledger.add(read.at.timestamp(), interval.seconds, interval.growth, interval.evictions)
            self._note_seen(read.at.timestamp(), interval)
        self.previous = read
        return interval

    def _note_seen(self, at: float, interval: Interval) -> None:
        known = self.previous.entries if self.previous is not None else {}
        for key in interval.growth:
            seen = self.seen.get(key[1])
            if seen is None:
                self.seen[key[1]] = Seen(None if key in known else at, at)
            else:
                seen.last = at
        if len(self.seen) > SEEN:
            oldest = sorted(self.seen, key=lambda queryid: self.seen[queryid].last)
            for queryid in oldest[: SEEN // 4]:
                del self.seen[queryid]

    def set_mark(self, at: datetime | None) -> datetime | None:
        """From here on (None: from the newest reading on) changes are looked for; gives the moment."""
        newest = self.previous.at if self.previous is not None else None
        moment = at or newest
        if moment is None:
            return None
        self._kept = {}
        self.ledger.set_mark(moment.timestamp())
        return moment

    def missing_texts(self, interval: Interval, limit: int = SHOWN) -> list[int]:
        """Query ids among the busiest of the interval whose text was not fetched yet."""
        return [q for q, _ in _busiest(_by_query(interval.growth.items())) if q not in self.texts][: limit * 2]

    def blank(self, interval: Interval) -> bool:
        """Whether something was busy in the interval, and of all that would be shown no text is known."""
        users_of = _users(interval.growth)
        top = [q for q, _ in _busiest(_by_query(interval.growth.items()))[:SHOWN]]
        return bool(top) and not any(q in self.texts and not self.ours(q, users_of[q]) for q in top)

    def book(self, newest: Hotspots, tapes: Tapes) -> Book:
        """Everything that is known now, for any window."""
        names = Names(self.ours, self._item, self._user, self._text)
        return Book(newest, self.ledger.buckets(), self.ledger.mark, names, tapes, self.timed, self._kept)

    def learn(self, rows: Iterable[dict[str, object]]) -> None:
        """Take in the rows of `texts.sql`."""
        for row in rows:
            queryid = row["queryid"]
            raw = row["query"]
            if not isinstance(queryid, int):
                continue
            text = raw if isinstance(raw, str) else ""
            known = self.texts.setdefault(queryid, Text(text, clean_line(text), {}))
            known.users[int(str(row["userid"]))] = clean_line(str(row["user_name"]), 128)

    def ours(self, queryid: int, users: Iterable[int]) -> bool:
        """Whether this statement is one of this product's own.

        Every SQL file of this room begins with a marker comment, which pg_stat_statements keeps. Statements without it
        count as ours only when our own login alone ran them and they read the catalog, the control schema, or are SET,
        SHOW, EXPLAIN and the like: an application that shares our login keeps all its real work in the list.
        """
        text = self.texts.get(queryid)
        if text is None:
            return False
        if MARKER in text.raw[:200]:
            return True
        names = {text.users.get(user, "") for user in users}
        return names == {self.own_user} and bool(_OURS.search(text.raw) or _UTILITY.match(text.raw))

    def hotspots(self, interval: Interval, *, record: bool = True) -> Hotspots:
        """The busiest statements of the interval, by execution time; `record` adds a point to their histories."""
        if self.previous is None:
            raise ValueError("no read was noted yet")
        seconds = interval.seconds
        users_of = _users(interval.growth)
        grown = {q: c for q, c in _by_query(interval.growth.items()).items() if not self.ours(q, users_of[q])}
        total = sum(c.total_ms for c in grown.values())
        items: list[Hotspot] = []
        if seconds > 0:
            top = _busiest(grown)[:SHOWN]
            if record:
                self.histories.add(self.previous.at, seconds, dict(top), grown)
            self._waiting = self.waits.of(q for q, _ in top)
            items = [self._item(q, c, seconds, total, users_of[q]) for q, c in top]
        return Hotspots(
            items=tuple(items),
            interval_s=seconds,
            total_ms_per_s=total / seconds if seconds > 0 else 0.0,
            statements_seen=len(self.previous.entries),
            hidden=self.previous.hidden,
            epoch_started=self.epoch_started,
            epoch_note=self.epoch_note,
            read_at=self.previous.at,
        )

    def detail(self, queryid: int) -> QueryDetail:
        """Totals of the epoch and the history of one statement. Raises UsageError for one that is not known."""
        text = self.texts.get(queryid)
        if self.timed.sampled:
            raise UsageError(
                "this statement was only sampled: nothing more is known of it",
                field="queryid",
                value=str(queryid),
                remedy="install pg_stat_statements for totals, plans and forecasts",
            )
        if text is None or self.previous is None:
            raise UsageError(
                "this statement was not among the busy ones since this console began to look",
                field="queryid",
                value=str(queryid),
                remedy="take a queryid from the hotspots",
            )
        mine = [(key, c) for key, c in self.previous.entries.items() if key[1] == queryid]
        sums = _by_query(mine).get(queryid, NOTHING)
        return QueryDetail(
            queryid=queryid,
            query=clean(text.raw),
            raw_query=text.raw,
            user=self._user_name(text, {key[0] for key, _ in mine}),
            calls=sums.calls,
            total_ms=sums.total_ms,
            mean_ms=sums.total_ms / sums.calls if sums.calls else 0.0,
            stddev_ms=sums.stddev_ms,
            rows=sums.rows,
            history=self.histories.points(queryid),
        )

    def _item(self, queryid: int, c: Counters, seconds: float, total: float, users: set[int]) -> Hotspot:
        text, seen = self.texts.get(queryid), self.seen.get(queryid)
        return Hotspot(
            queryid=queryid,
            query=text.shown if text else GONE if queryid in self.asked else UNREAD,
            user=self._user_name(text, users) if text else "",
            trend=self.histories.trend(queryid, TREND),
            first_seen=datetime.fromtimestamp(seen.first, UTC) if seen and seen.first is not None else None,
            last_seen=datetime.fromtimestamp(seen.last, UTC) if seen else None,
            waits=self._waiting.get(queryid, ()),
            **figures(c, seconds, total, self.timed),
        )

    def _user(self, userid: int) -> str:
        """The name of a user, as far as any text has told it."""
        return next((t.users[userid] for t in self.texts.values() if userid in t.users), f"(role {userid})")

    def _text(self, queryid: int) -> str:
        text = self.texts.get(queryid)
        return text.raw if text else ""

    @staticmethod
    def _user_name(text: Text, users: set[int]) -> str:
        if len(users) == 1:
            return text.users.get(next(iter(users)), "")
        return f"{len(users)} users" if users else ""


def _by_query(growth: Iterable[tuple[Key, Counters]]) -> dict[int, Counters]:
    """One entry a queryid: users and nested calls together."""
    sums: dict[int, Counters] = {}
    for (_, queryid, _), c in growth:
        sums[queryid] = sums[queryid].plus(c) if queryid in sums else c
    return sums


def _users(keys: Iterable[Key]) -> dict[int, set[int]]:
    users: dict[int, set[int]] = {}
    for userid, queryid, _ in keys:
        users.setdefault(queryid, set()).add(userid)
    return users


def _busiest(sums: dict[int, Counters]) -> list[tuple[int, Counters]]:
    return sorted(sums.items(), key=lambda item: (-item[1].total_ms, item[0]))
