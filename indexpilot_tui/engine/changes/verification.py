"""Did the change help? Per statement, before and after, from pg_stat_statements; pure arithmetic on what was saved.

A difference counts when there were enough calls, it is large enough, and the spread of the calls does not explain it (see
windows.py). What a change of an index does to a query that only reads it does through the plan: where the plans before and
after are known and equal, the difference came from elsewhere, whatever its size, and is no evidence. What is planned here
are a few values of a statement's parameters, what ran may be others; so the blocks that its calls looked at, which no other
load on the machine changes, must be as many as before, too (measured on TPC-H: with the same sampled plans one query read
another number of blocks, and its plan had changed). Where plans are not known, the blocks alone say as much, and must be
closer. A rebuilt index is the same to the planner and another to the disk, and a statement that writes pays for an index
without a word in its plan: for these neither decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from indexpilot_tui.engine.changes.plan_shapes import CHANGED, NOT_COMPARED, UNCHANGED, compare
from indexpilot_tui.engine.changes.windows import Window, between, cumulative, texts, welch_t
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.model.change import QueryVerdict, Verification, WriteCost
from indexpilot_tui.settings.model import VerificationPolicy

__all__ = ["IMPROVED", "NO_EVIDENCE", "REGRESSED", "Window", "verify", "welch_t"]

WRITES = ("insert", "update", "delete", "merge")
IMPROVED, NO_EVIDENCE, REGRESSED = "improved", "no evidence", "regressed"

# A regression weighs if it costs at least this share of what the after window's calls would have cost before the change.
# Our judgement: below it a slower side statement does not outvote the one that the change was made for; it is named anyway.
WEIGHS = 0.05
SAME_WORK, SAME_WORK_ALONE = 1.05, 1.01  # times the blocks of before; alone: where the plans are not known


@dataclass(frozen=True, slots=True)
class _Side:
    windows: dict[str, Window]
    notes: dict[str, str]

    def of(self, queryid: str) -> Window:
        return self.windows.get(queryid, Window(0, 0.0, 0.0))


def _before(stats: Mapping[str, PhaseStats], min_calls: int) -> _Side:
    """From the proposal to the start where there are enough calls, else everything since the reset before the start."""
    start = stats["start"]
    everything_since = cumulative(start)
    recent, restarted = between(stats["proposed"], start) if "proposed" in stats else ({}, set())
    since = f"since the reset of {start.stats_reset:%Y-%m-%d %H:%M %Z}" if start.stats_reset else "since the last reset"
    windows: dict[str, Window] = {}
    notes: dict[str, str] = {}
    for queryid, everything in everything_since.items():
        if recent.get(queryid, Window(0, 0.0, 0.0)).calls >= min_calls:
            windows[queryid] = recent[queryid]
            if queryid in restarted:
                notes[queryid] = "the statistics began anew between the proposal and the start: before is since then"
        else:
            windows[queryid] = everything
            notes[queryid] = f"too few calls between the proposal and the start: before is all calls {since}"
    return _Side(windows, notes)


def _after(stats: Mapping[str, PhaseStats]) -> _Side:
    windows, restarted = between(stats["end"], stats["observed"])
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


def _work(before: Window, after: Window) -> float | None:
    """How many times the blocks of before a call looks at now; None where that was not recorded."""
    old, new = before.blocks_per_call, after.blocks_per_call
    if old is None or new is None:
        return None
    return (new + 1) / (old + 1)  # a call that looks at no block at all is no division by zero


def _same_work(plan: str, work: float | None) -> bool:
    """Whether the statement does what it did: another plan looks at another number of blocks."""
    if plan == CHANGED:
        return False
    if work is None:
        return plan == UNCHANGED
    most = SAME_WORK if plan == UNCHANGED else SAME_WORK_ALONE
    return 1 / most <= work <= most


def _weigh(verdict: str, reason: str, plan: str, work: float | None) -> tuple[str, str]:
    """What plan and blocks say to a difference that counts, of a statement that only reads."""
    if verdict == NO_EVIDENCE:
        return verdict, reason
    told = "" if work is None else f", {work:.2f} times the blocks of before a call"
    if _same_work(plan, work):
        how = "slower" if verdict == REGRESSED else "faster"
        kept = "its plan is the one from before" if plan == UNCHANGED else "it does the work of before"
        return NO_EVIDENCE, f"{reason}{told}: {how}, but {kept}, so not by this change"
    if plan == CHANGED:
        return verdict, f"{reason}{told}; it has another plan"
    return verdict, f"{reason}{told}"


def _plans(stats: Mapping[str, PhaseStats], queryid: str) -> tuple[str, str]:
    """Whether the statement has another plan after the change, and why that is not known."""
    sides = [stats[phase].context.get("plans", {}) for phase in ("start", "observed")]
    told, why = compare(sides[0].get(queryid), sides[1].get(queryid))
    general = next((str(w) for phase in ("start", "observed") if (w := stats[phase].context.get("plans_why"))), "")
    return told, general or why


def _hot(earlier: Mapping[str, Any] | None, later: Mapping[str, Any] | None, min_updates: int) -> float | None:
    """Share of the updates between two readings that were HOT, in per cent; None for too few, or counters set back."""
    if not later:
        return None
    updates = later["updates"] - (earlier["updates"] if earlier else 0)
    hot = later["hot"] - (earlier["hot"] if earlier else 0)
    return 100.0 * hot / updates if updates >= min_updates and 0 <= hot <= updates else None


def _writes(
    stats: Mapping[str, PhaseStats], before: _Side, after: _Side, writers: set[str], policy: VerificationPolicy
) -> WriteCost | None:
    """Over all statements that write. The same statements on both sides: one that came only later is left out."""
    both = [q for q in writers if before.of(q).calls and after.of(q).calls]
    old = sum((before.of(q) for q in both), Window(0, 0.0, 0.0))
    new = sum((after.of(q) for q in both), Window(0, 0.0, 0.0))
    enough = min(old.calls, new.calls) >= policy.min_calls
    table = {phase: stats[phase].context.get("table") if phase in stats else None
             for phase in ("proposed", "start", "end", "observed")}  # fmt: skip
    hot_before = _hot(table["proposed"], table["start"], policy.min_calls)
    if hot_before is None:
        hot_before = _hot(None, table["start"], policy.min_calls)
    hot_after = _hot(table["end"], table["observed"], policy.min_calls) if table["end"] else None
    if not both and hot_after is None:
        return None
    return WriteCost(
        calls_before=old.calls,
        calls_after=new.calls,
        mean_before_ms=old.mean_ms if enough else None,
        mean_after_ms=new.mean_ms if enough else None,
        wal_before=old.wal_per_call if enough else None,
        wal_after=new.wal_per_call if enough else None,
        hot_before_pct=hot_before,
        hot_after_pct=hot_after,
    )


def _in_words(judged: list[QueryVerdict], writes: WriteCost | None, why_no_plans: str) -> str:
    """What the plans and the writes say, as a part of the verdict's sentence."""
    changed = [q.queryid for q in judged if q.plan == CHANGED]
    known = sum(q.plan != NOT_COMPARED for q in judged)
    parts = []
    if known:
        names = f" ({', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''})" if changed else ""
        parts.append(f"plans of {known} of {len(judged)} compared, {len(changed)} changed{names}")
    elif judged:
        parts.append(f"plans not compared{f' ({why_no_plans})' if why_no_plans else ''}")
    if writes is not None:
        said = []
        if writes.mean_before_ms is not None and writes.mean_after_ms is not None:
            said.append(f"{writes.mean_before_ms:.3g} -> {writes.mean_after_ms:.3g} ms")
        if writes.wal_before is not None and writes.wal_after is not None:
            said.append(f"{writes.wal_before:.0f} -> {writes.wal_after:.0f} B of WAL a call")
        if writes.hot_before_pct is not None and writes.hot_after_pct is not None:
            said.append(f"HOT {writes.hot_before_pct:.0f} -> {writes.hot_after_pct:.0f} % of the updates")
        parts.append(f"writes: {', '.join(said) or 'too few to compare'}")
    return "".join(f"; {part}" for part in parts)


def verify(stats: Mapping[str, PhaseStats], policy: VerificationPolicy, kind: str = "create") -> Verification:
    """Compare the statements on the table before and after the change (`kind`: create, drop or reindex).

    `stats` holds the phases proposed (may be missing), start, end and observed; each row has queryid, userid, dbid,
    query, calls, total_exec_time and stddev_exec_time (ms), and may have toplevel, stats_since (a time or its ISO 8601
    text), wal_bytes and kind (select, insert ...). A phase's context may have `table` (updates and HOT ones since the
    reset) and `plans` (see plan_shapes.py). The time of the build, from start to end, counts on neither side. Missing
    data never raises: it is "no evidence", and the reason says what is missing.
    """
    missing = [phase for phase in ("start", "end", "observed") if phase not in stats]
    if missing:
        return Verification(NO_EVIDENCE, f"the statistics were not recorded at: {', '.join(missing)}", (), 0.0)
    window_s = (stats["observed"].taken_at - stats["end"].taken_at).total_seconds()
    before, after, queries = _before(stats, policy.min_calls), _after(stats), texts(stats)
    kinds = {str(row["queryid"]): row.get("kind") for phase in stats.values() for row in phase.rows}
    judged: list[tuple[QueryVerdict, float, float]] = []
    why_no_plans = ""
    for queryid in sorted(queries):
        old, new = before.of(queryid), after.of(queryid)
        plan, why = _plans(stats, queryid)
        why_no_plans = why_no_plans or why
        reads = kinds.get(queryid) == "select" and kind != "reindex"
        verdict, reason = _judge(old, new, policy)
        if reads:
            work = _work(old, new)
            verdict, reason = _weigh(verdict, reason, plan, work)
            plan = NOT_COMPARED if plan == UNCHANGED and not _same_work(plan, work) else plan
        notes = "; ".join(side.notes[queryid] for side in (before, after) if queryid in side.notes)
        item = QueryVerdict(
            queryid=queryid,
            query=queries[queryid],
            calls_before=old.calls,
            calls_after=new.calls,
            mean_before_ms=old.mean_ms,
            mean_after_ms=new.mean_ms,
            verdict=verdict,
            reason=f"{reason} ({notes})" if notes else reason,
            plan=plan,
            wal_before=old.wal_per_call,
            wal_after=new.wal_per_call,
        )
        expected = new.calls * old.mean_ms if old.calls else new.total_ms
        judged.append((item, expected, new.total_ms - expected))
    judged.sort(key=lambda entry: (-abs(entry[2]), entry[0].queryid))
    hidden = max(sum(row["queryid"] is None for row in phase.rows) for phase in stats.values())
    verdict, reason = _overall(judged, hidden)
    items = tuple(item for item, _, _ in judged)
    writers = {queryid for queryid, what in kinds.items() if what in WRITES}
    writes = _writes(stats, before, after, writers, policy)
    return Verification(verdict, reason + _in_words(list(items), writes, why_no_plans), items, window_s, writes)
