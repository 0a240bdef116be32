"""An hour of what statements did, in buckets of bounded size: what the windows of 1, 5 and 60 minutes and the time since a
mark are summed from. Pure; nothing here talks to a server.

Buckets are of ten seconds for the last five minutes and of a minute before that; each keeps the statements that took most
of its time and one row a user for all the others, so that shares and sums are of everything. A bucket never reaches over
an epoch (reset, restart, failover) or a mark.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from indexpilot_tui.engine.observe.counters import Counters, Key

Entry = tuple[int, int]  # userid, queryid; OTHERS for all the statements of a user that a bucket has no room for
OTHERS = 0  # no statement has it: the server's 0 is "not computed"

FINE_S, COARSE_S = 10.0, 60.0
FINE_FOR_S = 300.0  # buckets are fine for the largest window that is asked for often
HOUR_S = 3600.0
STATEMENTS = 300  # a bucket; bounds memory: 90 buckets * 300 * 112 bytes = 3 MB
_WIDTH = len(Counters._fields)


@dataclass(frozen=True, slots=True)
class Bucket:
    """`start` and `end` in seconds since 1970 by the server's clock; `seconds` of it were really watched. `evictions`: how
    often the server gave entries up meanwhile."""

    start: float
    end: float
    seconds: float
    epoch: int
    evictions: int
    keys: array[int]
    numbers: array[float]

    def rows(self) -> Iterator[tuple[Entry, Counters]]:
        keys, numbers = self.keys, self.numbers
        for row in range(len(keys) // 2):
            yield (keys[2 * row], keys[2 * row + 1]), Counters._make(numbers[row * _WIDTH : (row + 1) * _WIDTH])


@dataclass(frozen=True, slots=True)
class Span:
    """The sum of some buckets. `seconds` 0: nothing was watched in it."""

    start: float
    end: float
    seconds: float
    evictions: int
    sums: Mapping[Entry, Counters]


NO_SPAN = Span(0.0, 0.0, 0.0, 0, {})


def packed(start: float, end: float, seconds: float, epoch: int, evictions: int, sums: Mapping[Entry, Counters]) -> Bucket:
    """A bucket of the busiest of `sums`; the rest is added up by user."""
    kept = sums
    if len(sums) > STATEMENTS:
        order = sorted(sums, key=lambda entry: -sums[entry].total_ms if entry[1] != OTHERS else float("-inf"))
        kept = {entry: sums[entry] for entry in order[:STATEMENTS]}
        for entry in order[STATEMENTS:]:
            add(kept, (entry[0], OTHERS), sums[entry])
    keys, numbers = array("q"), array("d")
    for entry, counters in kept.items():
        keys.extend(entry)
        numbers.extend(counters)
    return Bucket(start, end, seconds, epoch, evictions, keys, numbers)


def add(sums: dict[Entry, Counters], entry: Entry, counters: Counters) -> None:
    known = sums.get(entry)
    sums[entry] = counters if known is None else known.plus(counters)


def total(buckets: Sequence[Bucket]) -> Span:
    """What all of them say together."""
    if not buckets:
        return NO_SPAN
    sums: dict[Entry, Counters] = {}
    for bucket in buckets:
        for entry, counters in bucket.rows():
            add(sums, entry, counters)
    seconds, evictions = sum(b.seconds for b in buckets), sum(b.evictions for b in buckets)
    return Span(buckets[0].start, buckets[-1].end, seconds, evictions, sums)


@dataclass(slots=True)
class Ledger:
    """Takes intervals in, hands out the buckets. `mark`: a bucket ends there."""

    closed: list[Bucket] = field(default_factory=list)
    epoch: int = 0
    mark: float | None = None
    _open: dict[Entry, Counters] = field(default_factory=dict)
    _start: float = 0.0
    _end: float = 0.0
    _seconds: float = 0.0
    _evictions: int = 0

    def add(self, at: float, seconds: float, growth: Mapping[Key, Counters], evictions: int = 0) -> None:
        """An interval that ended at `at` and took `seconds`."""
        if self._seconds and at - self._start > FINE_S:
            self.close()
        if not self._seconds:
            self._start = at - seconds
        self._end, self._seconds = at, self._seconds + seconds
        self._evictions += evictions
        for (userid, queryid, _), counters in growth.items():
            add(self._open, (userid, queryid), counters)

    def close(self) -> None:
        """End the bucket that is being filled."""
        if self._seconds:
            self.closed.append(self._now())
        self._open, self._seconds, self._evictions = {}, 0.0, 0
        self._tidy()

    def cut(self) -> None:
        """A new epoch: what comes is not compared with what was."""
        self.close()
        self.epoch += 1

    def set_mark(self, at: float) -> None:
        self.close()
        self.mark = at

    def buckets(self) -> tuple[Bucket, ...]:
        """All of them, oldest first, with the one that is being filled; they do not change any more."""
        return (*self.closed, self._now()) if self._seconds else tuple(self.closed)

    def _now(self) -> Bucket:
        return packed(self._start, self._end, self._seconds, self.epoch, self._evictions, self._open)

    def _tidy(self) -> None:
        """Coarser where it is older than five minutes; nothing older than an hour."""
        kept: list[Bucket] = []
        for bucket in self.closed:
            if bucket.end < self._end - HOUR_S - COARSE_S:
                continue
            if kept and bucket.end < self._end - FINE_FOR_S and self._belongs(kept[-1], bucket):
                both = total((kept[-1], bucket))
                kept[-1] = packed(both.start, both.end, both.seconds, bucket.epoch, both.evictions, both.sums)
            else:
                kept.append(bucket)
        self.closed = kept

    def _belongs(self, older: Bucket, newer: Bucket) -> bool:
        """Whether the two are one minute."""
        apart = self.mark is not None and older.end <= self.mark <= newer.start
        return older.epoch == newer.epoch and newer.end - older.start <= COARSE_S and not apart


def last(buckets: Sequence[Bucket], seconds: float) -> tuple[Bucket, ...]:
    """Those of the last `seconds`, of the newest epoch; the last one at least."""
    if not buckets:
        return ()
    newest = buckets[-1]
    since = newest.end - seconds - 0.5
    return tuple(b for b in buckets if b is newest or (b.epoch == newest.epoch and b.start >= since))


def after(buckets: Sequence[Bucket], moment: float) -> tuple[Bucket, ...]:
    """Those that began after `moment`, give or take half of one."""
    return tuple(b for b in buckets if (b.start + b.end) / 2 >= moment)


def before(buckets: Sequence[Bucket], moment: float, seconds: float) -> tuple[Bucket, ...]:
    """Those of the `seconds` until `moment`, of one epoch."""
    older = [b for b in buckets if (b.start + b.end) / 2 < moment]
    return tuple(b for b in last(older, seconds) if b.start >= moment - seconds - COARSE_S)
