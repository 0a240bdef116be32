"""Did the change help? Per statement, before and after, from pg_stat_statements; pure arithmetic on what was saved.

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
from indexpilot_tui.engine.model.change import QueryVerdict, Verification
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.settings.model import VerificationPolicy

IMPROVED, NO_EVIDENCE, REGRESSED = "improved", "no evidence", "regressed"

# A regression weighs if it costs at least this share of what the after window's calls would have cost before the change.
# Our judgement: below it a slower side statement does not outvote the one that the change was made for; it is named anyway.
WEIGHS = 0.05

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Calls of one statement in some time: how many, their total time (ms) and M2 (ms^2)."""

    calls: int
    total_ms: float
    m2: float
    since: datetime | None = None  # when the server began to count this entry (17 on); None: not told

    @property
    def mean_ms(self) -> float:
        """Mean time of a call, ms; 0 without calls."""
        return self.total_ms / self.calls if self.calls else 0.0

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
        return Window(calls, self.total_ms + other.total_ms, m2, since)

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
        if calls == 0:
            return Window(0, 0.0, 0.0)
        shift = total / calls - earlier.mean_ms
        m2 = self.m2 - earlier.m2 - shift * shift * earlier.calls * calls / self.calls
        scale = self.m2 + earlier.m2 + self.mean_ms**2 * self.calls
        if m2 < -1e-6 * scale:
            return None
        return Window(calls, total, m2 if m2 > 1e-12 * scale else 0.0)  # below that it is the rounding of the doubles


def welch_t(before: Window, after: Window) -> float:
    """Welch's t of two windows with at least two calls each; negative when after is faster. Without any spread on both
    sides it is infinite for different means, 0 for equal ones."""
    spread = before.variance / before.calls + after.variance / after.calls
    difference = after.mean_ms - before.mean_ms
    if spread == 0.0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(spread)


def _readings(stats: PhaseStats) -> dict[Key, Window]:
    """Cumulative counters by entry. An entry is (queryid, user, database, top level); hidden ones have no queryid."""
    found: dict[Key, Window] = {}
    for row in stats.rows:
        if row["queryid"] is None:
            continue
        key = (str(row["queryid"]), row["userid"], row["dbid"], row.get("toplevel"))
        calls, stddev = int(row["calls"]), float(row["stddev_exec_time"])
        since = row.get("stats_since")
        since = datetime.fromisoformat(since) if isinstance(since, str) else since
        window = Window(calls, float(row["total_exec_time"]), stddev * stddev * calls, since)
        found[key] = found[key] + window if key in found else window
    return found


def _texts(stats: Mapping[str, PhaseStats]) -> dict[str, str]:
    return {
        str(row["queryid"]): clean_line(str(row.get("query") or ""))
        for phase in stats.values()
        for row in phase.rows
        if row["queryid"] is not None
    }


def _between(earlier: PhaseStats, later: PhaseStats) -> tuple[dict[str, Window], set[str]]:
    """Calls by queryid between two readings, and the queryids whose counting began anew in between: after a reset or an
    eviction the later counters hold calls from after that moment only, so they are a part of the window, and valid."""
    old, new = _readings(earlier), _readings(later)
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


def _cumulative(stats: PhaseStats) -> dict[str, Window]:
    windows: dict[str, Window] = {}
    for key, reading in _readings(stats).items():
        windows[key[0]] = windows[key[0]] + reading if key[0] in windows else reading
    return windows


@dataclass(frozen=True, slots=True)
class _Side:
    windows: dict[str, Window]
    notes: dict[str, str]

    def of(self, queryid: str) -> Window:
        return self.windows.get(queryid, Window(0, 0.0, 0.0))


def _before(stats: Mapping[str, PhaseStats], min_calls: int) -> _Side:
    """From the proposal to the start where there are enough calls, else everything since the reset before the start."""
    start = stats["start"]
    cumulative = _cumulative(start)
    recent, restarted = _between(stats["proposed"], start) if "proposed" in stats else ({}, set())
    since = f"since the reset of {start.stats_reset:%Y-%m-%d %H:%M %Z}" if start.stats_reset else "since the last reset"
    windows: dict[str, Window] = {}
    notes: dict[str, str] = {}
    for queryid, everything in cumulative.items():
        if recent.get(queryid, Window(0, 0.0, 0.0)).calls >= min_calls:
            windows[queryid] = recent[queryid]
            if queryid in restarted:
                notes[queryid] = "the statistics began anew between the proposal and the start: before is since then"
        else:
            windows[queryid] = everything
            notes[queryid] = f"too few calls between the proposal and the start: before is all calls {since}"
    return _Side(windows, notes)


def _after(stats: Mapping[str, PhaseStats]) -> _Side:
    windows, restarted = _between(stats["end"], stats["observed"])
    note = "the statistics began anew after the change: after is since then"
    return _Side(windows, dict.fromkeys(restarted, note))


def _judge(before: Window, after: Window, policy: VerificationPolicy) -> tuple[str, str]:
    """Verdict and reason for one statement."""
    for window, when in ((before, "before"), (after, "after")):
        if window.calls < policy.min_calls:
            return NO_EVIDENCE, f"{window.calls} calls {when}, at least {policy.min_calls} are needed"
    difference = after.mean_ms - before.mean_ms
    percent = 100 * difference / max(before.mean_ms, 1e-6)  # no call takes less than a nanosecond
    t = welch_t(before, after)
    figures = f"mean {before.mean_ms:.3g} -> {after.mean_ms:.3g} ms ({percent:+.1f} %), t = {t:.1f}"
    if math.isinf(t):
        figures += " (no spread on either side)"
    if abs(percent) < policy.min_change_pct:
        return NO_EVIDENCE, f"{figures}: the change is below {policy.min_change_pct:g} %"
    if abs(t) < policy.min_t:
        return NO_EVIDENCE, f"{figures}: the spread of the calls explains it (|t| below {policy.min_t:g})"
    return (IMPROVED if difference < 0 else REGRESSED), figures


def _overall(judged: list[tuple[QueryVerdict, float, float]], hidden: int) -> tuple[str, str]:
    """One verdict for the change. Each item: the statement's verdict, what its after calls would have cost before (ms), and
    what they cost more than that (ms, negative: saved)."""
    base = sum(expected for _, expected, _ in judged)
    regressed = [(verdict, extra) for verdict, _, extra in judged if verdict.verdict == REGRESSED]
    improved = [extra for verdict, _, extra in judged if verdict.verdict == IMPROVED]
    heavy = [(verdict, extra) for verdict, extra in regressed if extra >= WEIGHS * base]
    tail = f"; {hidden} statements are hidden from this role" if hidden else ""
    if heavy:
        worst, extra = max(heavy, key=lambda item: item[1])
        share = f"{100 * extra / base:.1f} %" if base else "all"
        reason = (
            f"statement {worst.queryid} is slower and costs {share} of the table's time more"
            f" (it weighs from {100 * WEIGHS:g} % on); {len(improved)} improved"
        )
        return REGRESSED, reason + tail
    if improved:
        reason = f"{len(improved)} of {len(judged)} statements improved and save {-sum(improved):.1f} of {base:.1f} ms"
        if regressed:
            lost = sum(extra for _, extra in regressed)
            reason += f"; {len(regressed)} slower by {lost:.1f} ms together, each below the {100 * WEIGHS:g} % that weigh"
        return IMPROVED, reason + tail
    if regressed:
        return NO_EVIDENCE, f"{len(regressed)} slower, each below the {100 * WEIGHS:g} % of the time that weigh{tail}"
    if not judged:
        return NO_EVIDENCE, f"no statement on the table was recorded{tail}"
    return NO_EVIDENCE, f"none of {len(judged)} statements changed beyond doubt{tail}"


def verify(stats: Mapping[str, PhaseStats], policy: VerificationPolicy) -> Verification:
    """Compare the statements on the table before and after the change.

    `stats` holds the phases proposed (may be missing), start, end and observed; each row has queryid, userid, dbid,
    query, calls, total_exec_time and stddev_exec_time (ms), and may have toplevel and stats_since (a time or its ISO
    8601 text). The time of the build, from start to end, counts on neither side. Missing data never raises: it is
    "no evidence", and the reason says what is missing.
    """
    missing = [phase for phase in ("start", "end", "observed") if phase not in stats]
    if missing:
        return Verification(NO_EVIDENCE, f"the statistics were not recorded at: {', '.join(missing)}", (), 0.0)
    window_s = (stats["observed"].taken_at - stats["end"].taken_at).total_seconds()
    before, after, texts = _before(stats, policy.min_calls), _after(stats), _texts(stats)
    judged: list[tuple[QueryVerdict, float, float]] = []
    for queryid in sorted(texts):
        old, new = before.of(queryid), after.of(queryid)
        verdict, reason = _judge(old, new, policy)
        notes = "; ".join(side.notes[queryid] for side in (before, after) if queryid in side.notes)
        item = QueryVerdict(
            queryid=queryid,
            query=texts[queryid],
            calls_before=old.calls,
            calls_after=new.calls,
            mean_before_ms=old.mean_ms,
            mean_after_ms=new.mean_ms,
            verdict=verdict,
            reason=f"{reason} ({notes})" if notes else reason,
        )
        expected = new.calls * old.mean_ms if old.calls else new.total_ms
        judged.append((item, expected, new.total_ms - expected))
    judged.sort(key=lambda entry: (-abs(entry[2]), entry[0].queryid))
    hidden = max(sum(row["queryid"] is None for row in phase.rows) for phase in stats.values())
    verdict, reason = _overall(judged, hidden)
    return Verification(verdict, reason, tuple(item for item, _, _ in judged), window_s)
