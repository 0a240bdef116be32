"""Calls of a statement in a time, from two readings of pg_stat_statements; and whether two such times differ.

Formulas:

* pg_stat_statements keeps for each entry the number of calls n, their total time and, by Welford's method, M2 = the
  sum of squared deviations from the mean; it shows stddev = sqrt(M2 / n), the population's (pg_stat_statements.c).
  So M2 = stddev^2 * n.
* The calls between two readings a and b of one entry: n = nb - na, total = Tb - Ta, and by the pairwise update of Chan,
  Golub and LeVeque ("Algorithms for Computing the Sample Variance", The American Statistician 37, 1983), solved for the
  second part: M2 = M2b - M2a - (mean - mean_a)^2 * na * n / nb.
* Welch's t = (mean_after - mean_before) / sqrt(s_before^2 / n_before + s_after^2 / n_after), s^2 = M2 / (n - 1)
  (B. L. Welch, Biometrika 34, 1947). With 30 independent calls on each side |t| >= 3 happens by chance in under 0.6 %
  of cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.postgres.text import clean_line

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Calls of one statement in some time: how many, their total time (ms), M2 (ms^2), the WAL that they wrote and the
    blocks that they looked at, in memory or not."""

    calls: int
    total_ms: float
    m2: float
    wal_bytes: float | None = None  # None: not recorded
    blocks: float | None = None
    since: datetime | None = None  # when the server began to count this entry (17 on); None: not told

    @property
    def mean_ms(self) -> float:
        """Mean time of a call, ms; 0 without calls."""
        return self.total_ms / self.calls if self.calls else 0.0

    @property
    def wal_per_call(self) -> float | None:
        """Bytes of WAL a call; None where it was not recorded or nothing was called."""
        return None if self.wal_bytes is None or not self.calls else self.wal_bytes / self.calls

    @property
    def blocks_per_call(self) -> float | None:
        """Blocks looked at a call; None where it was not recorded or nothing was called."""
        return None if self.blocks is None or not self.calls else self.blocks / self.calls

    @property
    def variance(self) -> float:
        """Sample variance, ms^2; 0 for fewer than two calls."""
        return self.m2 / (self.calls - 1) if self.calls > 1 else 0.0

    def __add__(self, other: Window) -> Window:
        """Both together (Chan, Golub, LeVeque)."""
        calls = self.calls + other.calls
        if not self.calls or not other.calls:
            return other if other.calls else self
        shift = other.mean_ms - self.mean_ms
        m2 = self.m2 + other.m2 + shift * shift * self.calls * other.calls / calls
        since = min(self.since, other.since) if self.since and other.since else None
        wal, blocks = _sum(self.wal_bytes, other.wal_bytes), _sum(self.blocks, other.blocks)
        return Window(calls, self.total_ms + other.total_ms, m2, wal, blocks, since)

    def minus(self, earlier: Window) -> Window | None:
        """The calls since an earlier reading of the same entry; None if the entry began anew in between.

        Before 17 the server does not tell the latter; counters that went down, or that no calls can explain, do.
        """
        calls = self.calls - earlier.calls
        if calls < 0 or self.since != earlier.since or (calls == 0 and self.total_ms != earlier.total_ms):
            return None
        total = self.total_ms - earlier.total_ms
        if total < 0:
            return None
        wal, blocks = _less(self.wal_bytes, earlier.wal_bytes), _less(self.blocks, earlier.blocks)
        if (wal is not None and wal < 0) or (blocks is not None and blocks < 0):
            return None
        if calls == 0:
            return Window(0, 0.0, 0.0)
        shift = total / calls - earlier.mean_ms
        m2 = self.m2 - earlier.m2 - shift * shift * earlier.calls * calls / self.calls
        scale = self.m2 + earlier.m2 + self.mean_ms**2 * self.calls
        if m2 < -1e-6 * scale:
            return None
        # below that it is the rounding of the doubles
        return Window(calls, total, m2 if m2 > 1e-12 * scale else 0.0, wal, blocks)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def welch_t(before: Window, after: Window) -> float:
    """Welch's t of two windows with at least two calls each; negative when after is faster. Without any spread on both
    sides it is infinite for different means, 0 for equal ones."""
    spread = before.variance / before.calls + after.variance / after.calls
    difference = after.mean_ms - before.mean_ms
    if spread == 0.0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(spread)


def readings(stats: PhaseStats) -> dict[Key, Window]:
    """Cumulative counters by entry. An entry is (queryid, user, database, top level); hidden ones have no queryid."""
    found: dict[Key, Window] = {}
    for row in stats.rows:
        if row["queryid"] is None:
            continue
        key = (str(row["queryid"]), row["userid"], row["dbid"], row.get("toplevel"))
        calls, stddev = int(row["calls"]), float(row["stddev_exec_time"])
        since = row.get("stats_since")
        since = datetime.fromisoformat(since) if isinstance(since, str) else since
        wal, blocks = (None if row.get(k) is None else float(row[k]) for k in ("wal_bytes", "blocks"))
        window = Window(calls, float(row["total_exec_time"]), stddev * stddev * calls, wal, blocks, since)
        found[key] = found[key] + window if key in found else window
    return found


def texts(stats: Mapping[str, PhaseStats]) -> dict[str, str]:
    return {
        str(row["queryid"]): clean_line(str(row.get("query") or ""))
        for phase in stats.values()
        for row in phase.rows
        if row["queryid"] is not None
    }


def between(earlier: PhaseStats, later: PhaseStats) -> tuple[dict[str, Window], set[str]]:
    """Calls by queryid between two readings, and the queryids whose counting began anew in between: after a reset or an
    eviction the later counters hold calls from after that moment only, so they are a part of the window, and valid."""
    old, new = readings(earlier), readings(later)
    resets = {earlier.stats_reset, later.stats_reset} - {None}
    reset = len(resets) == 2
    windows: dict[str, Window] = {}
    restarted: set[str] = set()
    for key, reading in new.items():
        window = reading
        if key in old:
            difference = None if reset else reading.minus(old[key])
            if difference is None:
                restarted.add(key[0])
            else:
                window = difference
        windows[key[0]] = windows[key[0]] + window if key[0] in windows else window
    return windows, restarted


def cumulative(stats: PhaseStats) -> dict[str, Window]:
    windows: dict[str, Window] = {}
    for key, reading in readings(stats).items():
        windows[key[0]] = windows[key[0]] + reading if key[0] in windows else reading
    return windows
