"""The verdict at the edge of each of its comparisons, and the windows that it is made of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.changes import verification, windows
from indexpilot_tui.engine.changes.plan_shapes import CHANGED, NOT_COMPARED, UNCHANGED
from indexpilot_tui.engine.changes.verification import IMPROVED, NO_EVIDENCE, REGRESSED, Window, verify
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.model.change import QueryVerdict, WriteCost
from indexpilot_tui.settings.model import VerificationPolicy
from tests.unit.test_verification import T0, old_and_new, phases, row, spread

POLICY = VerificationPolicy()  # 30 calls, 10 %, t of 3


def even(calls: int, mean: float, m2: float = 0.0, **more: Any) -> Window:
    return Window(calls, calls * mean, m2, **more)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (
            even(30, 5.0),
            even(30, 5.5),
            REGRESSED,
        ),  # ten per cent of thirty calls: all three are at the limit of calls and size
        (even(30, 5.0), even(30, 4.5), IMPROVED),
        (even(29, 5.0), even(30, 9.0), NO_EVIDENCE),
        (even(30, 5.0), even(29, 9.0), NO_EVIDENCE),
        (even(30, 5.0), even(30, 5.49), NO_EVIDENCE),
        (even(30, 10.0, 435.0), even(30, 13.0, 435.0), REGRESSED),  # t is 3
        (even(30, 10.0, 436.0), even(30, 13.0, 435.0), NO_EVIDENCE),
    ],
)
def test_a_difference_that_counts(before: Window, after: Window, verdict: str) -> None:
    assert verification._judge(before, after, POLICY)[0] == verdict


@pytest.mark.parametrize(
    ("plan", "work", "same"),
    [
        (UNCHANGED, 1.05, True), (UNCHANGED, 1 / 1.05, True), (UNCHANGED, 1.051, False), (UNCHANGED, 0.95, False),
        (NOT_COMPARED, 1.01, True), (NOT_COMPARED, 1 / 1.01, True), (NOT_COMPARED, 1.011, False),
        (UNCHANGED, None, True), (NOT_COMPARED, None, False), (CHANGED, 1.0, False), (CHANGED, None, False),
    ],
)  # fmt: skip
def test_the_same_work(plan: str, work: float | None, same: bool) -> None:
    assert verification._same_work(plan, work) is same
    verdict, reason = verification._weigh(REGRESSED, "r", plan, work)
    assert (verdict == NO_EVIDENCE) is same
    assert ("it has another plan" in reason) is (plan == CHANGED)


def test_work_that_was_not_recorded_on_one_side() -> None:
    with_blocks, without = even(2, 1.0, blocks=20.0), even(2, 1.0)
    assert verification._work(with_blocks, even(2, 1.0, blocks=42.0)) == 2.0
    assert verification._work(with_blocks, without) is None
    assert verification._work(without, with_blocks) is None


@pytest.mark.parametrize(
    ("earlier", "later", "share"),
    [
        (None, (30, 30), 100.0), ((0, 0), (30, 0), 0.0), ((0, 0), (29, 29), None), ((10, 10), (50, 30), 50.0),
        ((0, 1), (30, 0), None), ((0, 0), (30, 31), None), (None, None, None),
    ],
)  # fmt: skip
def test_the_share_of_hot_updates(earlier: Any, later: Any, share: float | None) -> None:
    first, second = (None if c is None else {"updates": c[0], "hot": c[1]} for c in (earlier, later))
    assert verification._hot(first, second, 30) == share


def told(verdict: str, queryid: str = "1", plan: str = NOT_COMPARED) -> QueryVerdict:
    return QueryVerdict(queryid, "q", 1, 1, 1.0, 1.0, verdict, "r", plan)


def test_a_regression_weighs_from_a_twentieth_on() -> None:
    better = (told(IMPROVED, "2"), 900.0, -800.0)
    assert verification._overall([(told(REGRESSED), 100.0, 50.0), better], 0)[0] == REGRESSED
    verdict, reason = verification._overall([(told(REGRESSED), 100.0, 49.9), better], 0)
    assert (verdict, "1 slower by 49.9 ms" in reason) == (IMPROVED, True)
    assert "slower by" not in verification._overall([better], 0)[1]
    alone = verification._overall([(told(REGRESSED), 1000.0, 10.0)], 2)
    assert alone == (
        NO_EVIDENCE,
        "1 slower, each below the 5 % of the time that weigh; 2 statements are hidden from this role",
    )
    assert verification._overall([], 0)[1] == "no statement on the table was recorded"
    assert verification._overall([(told(NO_EVIDENCE), 1.0, 0.0)], 0)[1] == "none of 1 statements changed beyond doubt"


def test_three_changed_plans_are_named() -> None:
    for count, more in ((0, ""), (3, "(0, 1, 2)"), (4, "(0, 1, 2 ...)")):
        judged = [told(NO_EVIDENCE, str(n), CHANGED) for n in range(count)] or [told(NO_EVIDENCE, plan=UNCHANGED)]
        words = verification._in_words(judged, None, "")
        assert words == f"; plans of {len(judged)} of {len(judged)} compared, {count} changed{f' {more}' if more else ''}"


def test_only_what_both_sides_have_is_compared_in_words() -> None:
    none = WriteCost(30, 30, 1.0, 2.0, None, 5.0, None, 50.0)
    assert verification._in_words([], none, "") == "; writes: 1 -> 2 ms"
    assert (
        verification._in_words([], WriteCost(1, 1, None, None, 5.0, None, 50.0, None), "") == "; writes: too few to compare"
    )


def test_enough_calls_since_the_proposal_are_the_window() -> None:
    for calls, recent in ((30, True), (29, False)):
        result = verify(phases(*old_and_new(spread(12.0, calls), spread(1.0, 50))), POLICY)
        assert (result.queries[0].calls_before == calls) is recent
    assert result.queries[0].query == "select 1"


def writer(sides: list[list[float]], queryid: int = 1) -> list[dict[str, Any]]:
    return [row(values, queryid, kind="update", wal_bytes=100 * len(values)) for values in sides]


@pytest.mark.parametrize(("calls", "enough"), [(30, True), (29, False)])
def test_writers_that_both_sides_have(calls: int, enough: bool) -> None:
    many = spread(10.0, 40)
    first = writer([[], many, many, many + spread(10.0, calls)])
    only_after = writer([[], [], [], spread(5.0, 90)], 2)
    result = verify(phases(*[[a, b] for a, b in zip(first, only_after, strict=True)]), POLICY)
    assert result.writes is not None
    assert (result.writes.calls_after, result.writes.mean_after_ms is not None) == (calls, enough)


@pytest.mark.parametrize(
    ("proposed", "before"),
    [(None, 50.0), ((90, 45), 50.0), ((50, 0), 100.0)],  # too few since the proposal: all since the reset
)
def test_hot_updates_since_the_proposal_or_the_reset(proposed: Any, before: float) -> None:
    stats = phases(*[[row(spread(1.0, 40))]] * 4)
    counted = {"proposed": proposed, "start": (100, 50), "end": (100, 50), "observed": (200, 125)}
    for name, counts in counted.items():
        phase = stats[name]
        table = {"table": {"updates": counts[0], "hot": counts[1]}} if counts else {}
        stats[name] = PhaseStats(phase.phase, phase.taken_at, phase.stats_reset, phase.rows, table)
    writes = verify(stats, POLICY).writes
    assert writes is not None
    assert (writes.hot_before_pct, writes.hot_after_pct) == (before, 75.0)


def test_statements_that_are_hidden_are_counted() -> None:
    readings = old_and_new(spread(10.0, 50), spread(1.0, 50))
    for reading in readings:
        reading.extend([row([1.0]) | {"queryid": None}] * 3)
    assert "3 statements are hidden" in verify(phases(*readings), POLICY).reason


def test_figures_of_a_call() -> None:
    assert (even(1, 5.0, 7.0).variance, even(2, 5.0, 7.0).variance) == (0.0, 7.0)
    for name, field in (("wal_per_call", "wal_bytes"), ("blocks_per_call", "blocks")):
        assert getattr(even(2, 1.0, **{field: 10.0}), name) == 5.0
        assert getattr(even(2, 1.0), name) is None
        assert getattr(Window(0, 0.0, 0.0, **{field: 10.0}), name) is None


def test_two_windows_together() -> None:
    some = even(3, 2.0, 1.0, wal_bytes=5.0, blocks=7.0, since=T0)
    nothing = Window(0, 0.0, 0.0)
    assert nothing + some == some
    assert some + nothing == some
    later = even(1, 2.0, 0.0, wal_bytes=1.0, blocks=1.0, since=T0 + timedelta(days=1))
    both = some + later
    assert (both.calls, both.wal_bytes, both.blocks, both.since) == (4, 6.0, 8.0, T0)
    unknown = some + even(1, 2.0)
    assert (unknown.wal_bytes, unknown.blocks, unknown.since) == (None, None, None)
    assert (even(1, 2.0) + some).since is None


@pytest.mark.parametrize(
    ("earlier", "later", "anew"),
    [
        (even(2, 5.0), Window(1, 20.0, 0.0), True),  # one call less, though more time
        (even(2, 5.0), Window(2, 10.1, 0.0), True),  # more time without a call
        (even(2, 5.0), Window(3, 9.5, 100.0), True),  # less time with one call more
        (even(2, 5.0), Window(3, 10.0, 50 / 3), False),  # one that took no time
        (even(2, 5.0), even(2, 5.0), False),
        (even(2, 5.0, wal_bytes=9.0), even(3, 5.0, wal_bytes=9.0), False),
        (even(2, 5.0, wal_bytes=9.0), even(3, 5.0, wal_bytes=8.5), True),
        (even(2, 5.0, blocks=9.0), even(3, 5.0, blocks=9.0), False),
        (even(2, 5.0, blocks=9.0), even(3, 5.0, blocks=8.5), True),
        (even(2, 5.0, since=T0), even(3, 5.0, since=T0 + timedelta(1)), True),
    ],
)
def test_an_entry_that_began_anew(earlier: Window, later: Window, anew: bool) -> None:
    found = later.minus(earlier)
    assert (found is None) is anew
    if found is not None and found.calls and earlier.wal_bytes is not None:
        assert (found.wal_bytes, found.blocks) == (0.0, None)
    if found is not None and found.calls and earlier.blocks is not None:
        assert (found.wal_bytes, found.blocks) == (None, 0.0)


def test_what_only_one_reading_recorded_is_not_known_between_them() -> None:
    for one, other in ((even(2, 5.0, wal_bytes=9.0), even(3, 5.0)), (even(2, 5.0), even(3, 5.0, wal_bytes=9.0))):
        found = other.minus(one)
        assert found is not None
        assert found.wal_bytes is None


def test_a_reset_that_is_told_counts_from_there_whatever_the_counters_say() -> None:
    stats = phases(None, [row(spread(1.0, 10))], [row(spread(1.0, 40))], [], resets=(None, T0, T0 + timedelta(1), None))
    found, anew = windows.between(stats["start"], stats["end"])
    assert (found["1"].calls, anew) == (40, {"1"})


def test_the_entries_of_two_users_are_one_statement() -> None:
    stats = phases(None, [row(spread(1.0, 10)), row(spread(1.0, 5), userid=11)], [], [])
    assert windows.cumulative(stats["start"])["1"].calls == 15
