"""Two reads of pg_stat_statements become one interval: what each statement did between them, or why that cannot be said.

Pure functions and values; nothing here talks to a server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

Key = tuple[int, int, bool]  # userid, queryid, toplevel; the database is always ours


class Counters(NamedTuple):
    """Counters of one entry, or their growth. Times in ms, blocks of the server's block size, WAL in bytes. `stddev_ms` of
    a growth is that of its own calls; NaN where the sums cannot tell it.

    A tuple, because thousands of them are made every two seconds (measured: 0.14 us each, a frozen dataclass 0.6 us).
    """

    calls: int
    total_ms: float
    stddev_ms: float
    rows: int
    hit: int
    read: int
    temp: int
    wal: float
    written: int = 0
    read_ms: float = 0.0
    write_ms: float = 0.0
    plan_ms: float = 0.0

    def minus(self, older: Counters) -> Counters:
        return Counters(
            self.calls - older.calls,
            self.total_ms - older.total_ms,
            stddev_of_growth((older.calls, older.total_ms, older.stddev_ms), (self.calls, self.total_ms, self.stddev_ms)),
            self.rows - older.rows,
            self.hit - older.hit,
            self.read - older.read,
            self.temp - older.temp,
            self.wal - older.wal,
            self.written - older.written,
            self.read_ms - older.read_ms,
            self.write_ms - older.write_ms,
            self.plan_ms - older.plan_ms,
        )

    def plus(self, other: Counters) -> Counters:
        return Counters(
            self.calls + other.calls,
            self.total_ms + other.total_ms,
            pooled_stddev((self.calls, self.total_ms, self.stddev_ms), (other.calls, other.total_ms, other.stddev_ms)),
            self.rows + other.rows,
            self.hit + other.hit,
            self.read + other.read,
            self.temp + other.temp,
            self.wal + other.wal,
            self.written + other.written,
            self.read_ms + other.read_ms,
            self.write_ms + other.write_ms,
            self.plan_ms + other.plan_ms,
        )

    def began_anew(self, older: Counters) -> bool:
        """Whether any counter is below what it was: the entry was evicted or reset and has come again since, even where it
        has more calls by now."""
        return (
            self.calls < older.calls
            or self.total_ms < older.total_ms
            or self.rows < older.rows
            or self.hit < older.hit
            or self.read < older.read
            or self.temp < older.temp
            or self.wal < older.wal
            or self.written < older.written
            or self.read_ms < older.read_ms
            or self.write_ms < older.write_ms
            or self.plan_ms < older.plan_ms
        )


NOTHING = Counters(0, 0.0, 0.0, 0, 0, 0, 0, 0.0)
# of the sums of squares: what is below it is the rounding of eight-byte floats, not a spread
_ROUNDING = 1e-12


def pooled_stddev(a: tuple[int, float, float], b: tuple[int, float, float]) -> float:
    """Population standard deviation of two groups together, each given as (count, sum, population stddev).

    Chan, Golub and LeVeque (1979): M2 = M2a + M2b + d^2 * na * nb / n, with d the difference of the means.
    pg_stat_statements keeps the population stddev (its source: `stddev = sqrt(sum_var / calls)`).
    """
    (na, sum_a, dev_a), (nb, sum_b, dev_b) = a, b
    if na <= 0 or nb <= 0:
        return dev_a if nb <= 0 else dev_b
    delta = sum_b / nb - sum_a / na
    m2 = dev_a**2 * na + dev_b**2 * nb + delta**2 * na * nb / (na + nb)
    return math.sqrt(m2 / (na + nb))


def stddev_of_growth(older: tuple[int, float, float], newer: tuple[int, float, float]) -> float:
    """The standard deviation of the calls in between, from two states as `pooled_stddev` has them: its formula, turned
    round. NaN where the newer calls are lost in the rounding of the old sum (one call after a million of them, say)."""
    (n, total, dev), (m, sum_, dev_now) = older, newer
    calls = m - n
    if n <= 0 or calls <= 0:
        return dev_now
    if calls == 1:
        return 0.0
    mean = (sum_ - total) / calls
    m2 = dev_now**2 * m - dev**2 * n - (mean - total / n) ** 2 * n * calls / m
    noise = _ROUNDING * (dev_now**2 * m + dev**2 * n + (sum_ / m) ** 2 * m)
    if m2 > 10 * noise:
        return math.sqrt(m2 / calls)
    return 0.0 if math.sqrt(noise / calls) <= 0.01 * abs(mean) else math.nan


@dataclass(frozen=True, slots=True)
class Read:
    """One read of the counters. `at`, `reset_at` and `server_started` by the server's clock; `evicted` is its count of
    evictions (None before extension 1.9); `hidden` counts the rows of others that this role may not see."""

    at: datetime
    server_started: datetime
    reset_at: datetime | None
    evicted: int | None
    entries: Mapping[Key, Counters]
    hidden: int


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two reads. `seconds` 0 means that there is no interval yet. `new_epoch` says that counters
    began anew within it, and `note` why."""

    seconds: float
    growth: Mapping[Key, Counters]
    new_epoch: bool = False
    note: str = ""
    evictions: int = 0


def read_of(
    rows: Iterable[tuple[Any, ...]],
    *,
    at: datetime,
    server_started: datetime,
    reset_at: datetime | None = None,
    evicted: int | None = None,
) -> Read:
    """A Read from the rows of `statements.sql`, in its order of columns."""
    entries: dict[Key, Counters] = {}
    hidden = 0
    for row in rows:
        if row[1] is None:
            hidden += 1
        else:
            entries[row[:3]] = Counters._make(row[3:])
    return Read(at, server_started, reset_at, evicted, entries, hidden)


def between(older: Read | None, newer: Read) -> Interval:
    """The growth of each entry from `older` to `newer`; entries without growth are left out.

    An entry that was not there before, or whose counters went back (it was evicted and came again, or reset alone), has
    done all that it shows since `older`. After a reset of everything the interval starts at the reset. After a restart,
    or when the server's clock went back, there is no interval: the counters of a crash are lost, and how long the
    server was away says nothing of the load.
    """
    if older is None:
        return Interval(0.0, {})
    if older.server_started != newer.server_started:
        return Interval(0.0, {}, True, f"the server restarted at {_clock(newer.server_started)}")
    start = older.at
    note = ""
    base: Mapping[Key, Counters] = older.entries
    if newer.reset_at is not None and older.reset_at is not None and newer.reset_at > older.reset_at:
        start, base = max(older.at, newer.reset_at), {}
        note = f"pg_stat_statements was reset at {_clock(newer.reset_at)}"
    seconds = (newer.at - start).total_seconds()
    if seconds <= 0:
        return Interval(0.0, {}, True, note or "the server's clock went back")
    growth, back = _growth(base, newer.entries)
    new_epoch = bool(note)
    if not note and base and back * 2 > len(base) and newer.reset_at is None:
        # before extension 1.9 nothing tells of a reset but the counters themselves
        new_epoch, note = True, "the counters of pg_stat_statements went back: it was reset"
    evictions = 0
    if not new_epoch and newer.evicted is not None and older.evicted is not None:
        evictions = max(0, newer.evicted - older.evicted)
    if not note and evictions:
        note = (
            f"pg_stat_statements is full: entries were evicted {evictions} times in the interval, "
            "so some statements are missing (raise pg_stat_statements.max)"
        )
    return Interval(seconds, growth, new_epoch, note, evictions)


def _growth(base: Mapping[Key, Counters], now: Mapping[Key, Counters]) -> tuple[dict[Key, Counters], int]:
    growth: dict[Key, Counters] = {}
    back = sum(1 for key in base if key not in now)
    for key, current in now.items():
        before = base.get(key)
        if before is None:
            if current.calls > 0:
                growth[key] = current
        elif current.calls != before.calls:
            if not current.began_anew(before):
                growth[key] = current.minus(before)
                continue
            back += 1
            if current.calls > 0:
                growth[key] = current
    return growth, back


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}"
