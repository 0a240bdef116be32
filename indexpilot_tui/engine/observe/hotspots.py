"""Where the time goes: hotspots of the last interval and the history of each statement in this session."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from indexpilot_tui.engine.observe.counters import Counters, Interval, Key, Read, between
from indexpilot_tui.engine.observe.history import Histories
from indexpilot_tui.engine.observe.model import Hotspot, Hotspots, QueryDetail
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.errors import UsageError

SHOWN = 60  # statements that a refresh hands over; also those that get a point of history each interval
TREND = 24  # intervals of the sparkline

MARKER = "/* indexpilot */"
_OURS = re.compile(r"\bindexpilot\.|\bpg_catalog\.", re.IGNORECASE)
_UTILITY = re.compile(r"\s*(?:/\*.*?\*/\s*)*(?:set|show|reset|begin|commit|rollback|explain|discard)\b", re.I | re.S)


@dataclass(slots=True)
class Text:
    raw: str
    shown: str  # cleaned, one line
    users: dict[int, str]


@dataclass(slots=True)
class HotspotTracker:
    """Remembers the last read, the texts and the histories of one target. Not shared between targets."""

    own_user: str = ""
    previous: Read | None = None
    epoch_started: datetime | None = None
    epoch_note: str = ""
    texts: dict[int, Text] = field(default_factory=dict)
    histories: Histories = field(default_factory=Histories)

    def note(self, read: Read) -> Interval:
        """Take a read in; gives the interval since the one before."""
        interval = between(self.previous, read)
        if self.previous is None:
            self.epoch_started = read.reset_at or read.at
        if interval.new_epoch:
            self.epoch_started = read.reset_at or read.at
        if interval.note:
            self.epoch_note = interval.note
        self.previous = read
        return interval

    def missing_texts(self, interval: Interval, limit: int = SHOWN) -> list[int]:
        """Query ids among the busiest of the interval whose text was not fetched yet."""
        return [q for q, _ in _busiest(_by_query(interval.growth.items())) if q not in self.texts][: limit * 2]

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
        if text is None or self.previous is None:
            raise UsageError(
                "this statement was not among the busy ones since this console began to look",
                field="queryid",
                value=str(queryid),
                remedy="take a queryid from the hotspots",
            )
        mine = [(key, c) for key, c in self.previous.entries.items() if key[1] == queryid]
        sums = _by_query(mine).get(queryid, Counters(0, 0.0, 0.0, 0, 0, 0, 0, 0.0))
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
        text = self.texts.get(queryid)
        blocks = c.hit + c.read
        return Hotspot(
            queryid=queryid,
            query=text.shown if text else "(the server no longer has the text)",
            user=self._user_name(text, users) if text else "",
            calls_per_s=c.calls / seconds,
            ms_per_s=c.total_ms / seconds,
            mean_ms=c.total_ms / c.calls,
            rows_per_call=c.rows / c.calls,
            share=c.total_ms / total if total > 0 else 0.0,
            hit_ratio=c.hit / blocks if blocks else None,
            temp_blocks_per_s=c.temp / seconds,
            wal_bytes_per_s=c.wal / seconds,
            trend=self.histories.trend(queryid, TREND),
        )

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
