"""The book of one moment: hotspots over any window, by query, table, user or database, from what is in memory. Nothing is
asked of the server, and a book does not change once it is made: a picture that is held still stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from indexpilot_tui.engine.observe.ledger import NO_SPAN, OTHERS, Bucket, Entry, Span, add, after, before, last, total
from indexpilot_tui.engine.observe.model import Group, Hotspot, Hotspots, View
from indexpilot_tui.engine.observe.spots import Timed, database_spots, figures, shares_by_table, table_spots
from indexpilot_tui.engine.observe.tape import Piece, over

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.counters import Counters

WINDOWS_S = (0.0, 60.0, 300.0, 3600.0)
SHOWN = 60  # rows at most
TOP = 20  # who is in it now and was not before the mark has joined
BEFORE_S = 300.0  # of what was before the mark is looked at

Spans = dict[tuple[float, float, int], Span]  # sums of buckets that are closed, kept between books


@dataclass(frozen=True, slots=True)
class Names:
    """How statements and users are called, and which are our own."""

    ours: Callable[[int, set[int]], bool]
    item: Callable[[int, Counters, float, float, set[int]], Hotspot]
    user: Callable[[int], str]
    text: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Tapes:
    """What is known of tables and databases. `databases_timed`: the server counts the time at work."""

    tables: tuple[Piece, ...] = ()
    table_names: Mapping[int, str] | None = None
    databases: tuple[Piece, ...] = ()
    database_names: Mapping[int, str] | None = None
    sessions: Mapping[int, int] | None = None
    databases_timed: bool = False


@dataclass(frozen=True, slots=True)
class Book:
    """`newest`: the hotspots of the last reading."""

    newest: Hotspots
    buckets: tuple[Bucket, ...]
    mark: float | None
    names: Names
    tapes: Tapes
    timed: Timed
    kept: Spans

    def hotspots(self, view: View) -> Hotspots:
        """As `view` wants them."""
        if view.group is Group.DATABASE:
            return self._databases(view)
        span = self._span(view)
        if view.group is Group.TABLE:
            return self._tables(view, span)
        if view.group is Group.USER:
            return self._users(view, span)
        if view.window_s == 0 and not view.since_mark:
            return replace(self.newest, view=view, mark=self._marked, items=self._compared(self.newest.items))
        shown = self._shown(span)
        full = sum(c.total_ms for _, c in shown.items())
        users = _users(shown)
        by_query: dict[int, Counters] = {}
        for (_, queryid), counters in shown.items():
            if queryid != OTHERS:
                by_query[queryid] = by_query[queryid].plus(counters) if queryid in by_query else counters
        top = sorted(by_query.items(), key=lambda item: (-item[1].total_ms, item[0]))[:SHOWN]
        items = tuple(self.names.item(q, c, span.seconds, full, users[q]) for q, c in top) if span.seconds > 0 else ()
        return self._made(view, span, items=self._compared(items), total_ms=full)

    @property
    def _marked(self) -> datetime | None:
        return None if self.mark is None else datetime.fromtimestamp(self.mark, UTC)

    # --- windows -------------------------------------------------------------------------------------------------------

    def _span(self, view: View) -> Span:
        if view.since_mark and self.mark is not None:
            return self._sum(after(self.buckets, self.mark))
        return self._sum(last(self.buckets, view.window_s or self.newest.interval_s))

    def _sum(self, buckets: tuple[Bucket, ...]) -> Span:
        """The sum of buckets; all but the newest do not change any more, and theirs is kept for the next book."""
        if not buckets:
            return NO_SPAN
        closed = tuple(b for b in buckets if b is not self.buckets[-1])
        key = (closed[0].start, closed[-1].end, len(closed)) if closed else (0.0, 0.0, 0)
        known = self.kept.get(key)
        if known is None:
            if len(self.kept) > 12:
                self.kept.clear()
            known = self.kept[key] = total(closed)
        if len(closed) == len(buckets):
            return known
        newest = total(buckets[-1:])
        if not closed:
            return newest
        sums = dict(known.sums)
        for entry, counters in newest.sums.items():
            add(sums, entry, counters)
        seconds, evictions = known.seconds + newest.seconds, known.evictions + newest.evictions
        return Span(known.start, newest.end, seconds, evictions, sums)

    def _shown(self, span: Span) -> dict[Entry, Counters]:
        """Without our own statements."""
        users = _users(span.sums)
        return {e: c for e, c in span.sums.items() if e[1] == OTHERS or not self.names.ours(e[1], users[e[1]])}

    def _made(self, view: View, span: Span, *, items: tuple[Hotspot, ...] = (), total_ms: float = 0.0) -> Hotspots:
        return replace(
            self.newest,
            items=items,
            interval_s=span.seconds,
            total_ms_per_s=total_ms / span.seconds if span.seconds > 0 else 0.0,
            view=view,
            window_note=self._note(view, span),
            mark=self._marked,
        )

    def _note(self, view: View, span: Span) -> str:
        """Why the window is shorter than wanted, and what is missing in it."""
        notes = []
        wanted = 0.0 if view.since_mark else view.window_s
        if wanted and span.seconds < 0.9 * wanted:
            newest = self.buckets[-1].epoch if self.buckets else 0
            cut = newest > 0 and self.newest.epoch_note and any(b.epoch != newest for b in self.buckets)
            notes.append(self.newest.epoch_note if cut else "no more was watched yet")
        if span.evictions:
            notes.append(f"{span.evictions} evictions: some statements are missing")
        return "; ".join(notes)

    # --- what changed since the mark -------------------------------------------------------------------------------------

    def _compared(self, items: tuple[Hotspot, ...]) -> tuple[Hotspot, ...]:
        if self.mark is None:
            return items
        older, newer = self._sum(before(self.buckets, self.mark, BEFORE_S)), self._sum(after(self.buckets, self.mark))
        if not older.seconds or not newer.seconds:
            return items
        then, now = self._times(older), self._times(newer)
        new = set(_top(now)) - set(_top(then))
        return tuple(
            replace(i, joined=i.queryid in new, before_ms_per_s=then.get(i.queryid, 0.0) / older.seconds) for i in items
        )

    def _times(self, span: Span) -> dict[int, float]:
        times: dict[int, float] = {}
        for (_, queryid), counters in self._shown(span).items():
            if queryid != OTHERS:
                times[queryid] = times.get(queryid, 0.0) + counters.total_ms
        return times

    # --- by something else than the query --------------------------------------------------------------------------------

    def _users(self, view: View, span: Span) -> Hotspots:
        shown = self._shown(span)
        full = sum(c.total_ms for c in shown.values())
        by_user: dict[int, Counters] = {}
        for (userid, _), counters in shown.items():
            by_user[userid] = by_user[userid].plus(counters) if userid in by_user else counters
        top = sorted(by_user.items(), key=lambda item: (-item[1].total_ms, item[0]))[:SHOWN]
        items = tuple(
            Hotspot(u, self.names.user(u), self.names.user(u), **figures(c, span.seconds, full, self.timed))
            for u, c in top
            if span.seconds > 0
        )
        return self._made(view, span, items=items, total_ms=full)

    def _tables(self, view: View, span: Span) -> Hotspots:
        shown = self._shown(span)
        full = sum(c.total_ms for c in shown.values())
        shares = shares_by_table(
            (self.names.text(queryid), counters.total_ms / full) for (_, queryid), counters in shown.items() if full > 0
        )
        seconds, sums = over(self.tapes.tables, self.mark if view.since_mark else None, view.window_s)
        made = self._made(view, span, total_ms=full)
        tables = table_spots(seconds, sums, self.tapes.table_names or {}, shares) if seconds else ()
        return replace(made, tables=tables, interval_s=seconds)

    def _databases(self, view: View) -> Hotspots:
        seconds, sums = over(self.tapes.databases, self.mark if view.since_mark else None, view.window_s)
        names, sessions = self.tapes.database_names or {}, self.tapes.sessions or {}
        found = database_spots(seconds, sums, names, sessions, timed=self.tapes.databases_timed) if seconds else ()
        made = self._made(view, NO_SPAN)
        note = "" if seconds >= 0.9 * view.window_s or view.since_mark else "counted only while it is looked at"
        return replace(made, databases=found, interval_s=seconds, window_note=note)


def _users(sums: Mapping[Entry, Counters]) -> dict[int, set[int]]:
    users: dict[int, set[int]] = {}
    for userid, queryid in sums:
        users.setdefault(queryid, set()).add(userid)
    return users


def _top(times: Mapping[int, float]) -> list[int]:
    return sorted(times, key=lambda queryid: (-times[queryid], queryid))[:TOP]
