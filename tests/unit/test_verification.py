"""Before and after: the arithmetic of windows against the plain definition, and every gate of the verdict."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.changes.verification import Window, verify, welch_t
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.settings.model import VerificationPolicy

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
POLICY = VerificationPolicy()  # 30 calls, 10 %, t of 3
times = st.lists(st.floats(0.001, 10_000), max_size=60)


def cumulative(values: list[float]) -> Window:
    mean = math.fsum(values) / len(values) if values else 0.0
    return Window(len(values), math.fsum(values), math.fsum((v - mean) ** 2 for v in values))


def row(values: list[float], queryid: int = 1, **more: Any) -> dict[str, Any]:
    """What pg_stat_statements shows after these calls (ms)."""
    base = {
        "queryid": queryid, "userid": 10, "dbid": 5, "query": f"select {queryid}", "calls": len(values),
        "total_exec_time": math.fsum(values), "stddev_exec_time": statistics.pstdev(values) if values else 0.0,
    }  # fmt: skip
    return base | more


def phases(
    proposed: list[dict[str, Any]] | None,
    start: list[dict[str, Any]],
    end: list[dict[str, Any]],
    observed: list[dict[str, Any]],
    *,
    resets: tuple[datetime | None, ...] = (None, None, None, None),
) -> dict[str, PhaseStats]:
    names = ("proposed", "start", "end", "observed")
    return {
        name: PhaseStats(name, T0 + timedelta(minutes=5 * n), resets[n], tuple(rows))
        for n, (name, rows) in enumerate(zip(names, (proposed, start, end, observed), strict=True))
        if rows is not None
    }


def spread(mean: float, calls: int) -> list[float]:
    """Calls around a mean, with a standard deviation of a tenth of it."""
    return [mean * (0.9 if n % 2 else 1.1) for n in range(calls)]


@given(times, times)
def test_difference_of_two_readings_is_the_window_in_between(first: list[float], second: list[float]) -> None:
    window = cumulative(first + second).minus(cumulative(first))
    assert window is not None
    wanted = cumulative(second)
    scale = math.fsum(v * v for v in first + second) + 1
    assert window.calls == wanted.calls
    assert window.total_ms == pytest.approx(wanted.total_ms, abs=1e-9 * scale)
    assert window.m2 == pytest.approx(wanted.m2, abs=1e-9 * scale)
    assert window.m2 >= 0


@given(times, times)
def test_sum_of_two_windows_is_the_window_of_both(first: list[float], second: list[float]) -> None:
    both, wanted = cumulative(first) + cumulative(second), cumulative(first + second)
    assert both.calls == wanted.calls
    assert both.total_ms == pytest.approx(wanted.total_ms)
    assert both.m2 == pytest.approx(wanted.m2, abs=1e-9 * (wanted.total_ms**2 + 1))


@given(times.filter(lambda v: len(v) > 1), times.filter(lambda v: len(v) > 1))
def test_welch_t_changes_sign_with_the_sides(first: list[float], second: list[float]) -> None:
    a, b = cumulative(first), cumulative(second)
    assert welch_t(a, b) == pytest.approx(-welch_t(b, a)) or (math.isinf(welch_t(a, b)) and math.isinf(welch_t(b, a)))


def test_welch_t_of_a_known_case() -> None:
    before, after = cumulative([20.0, 22.0, 24.0]), cumulative([10.0, 11.0, 12.0, 13.0])
    # means 22 and 11.5, variances 4 and 5/3: t = -10.5 / sqrt(4/3 + 5/12)
    assert welch_t(before, after) == pytest.approx(-10.5 / math.sqrt(4 / 3 + 5 / 12))


def test_counters_that_went_down_are_a_new_beginning() -> None:
    assert cumulative([1.0]).minus(cumulative([1.0, 2.0])) is None
    assert cumulative([1.0, 1.0, 1.0]).minus(cumulative([5.0, 5.0])) is None  # more calls, less time
    later = Window(3, 30.0, 200.0, since=T0 + timedelta(1))
    assert later.minus(Window(2, 20.0, 200.0, since=T0)) is None
    # more calls, more time, but no calls can explain so little spread
    assert Window(100, 1000.0, 0.0).minus(Window(10, 90.0, 5000.0)) is None


def old_and_new(before: list[float], after: list[float], queryid: int = 1) -> list[list[dict[str, Any]]]:
    """One statement at the four phases: half of its life before the proposal, 7 calls during the build."""
    earlier, build = spread(50.0, 40), spread(30.0, 7)
    readings = [earlier, earlier + before, earlier + before + build, earlier + before + build + after]
    return [[row(values, queryid)] for values in readings]


def test_improved_counts_neither_the_time_before_the_proposal_nor_the_build() -> None:
    result = verify(phases(*old_and_new(spread(12.0, 100), spread(1.0, 200))), POLICY)
    (query,) = result.queries
    assert (result.verdict, query.verdict) == ("improved", "improved")
    assert (query.calls_before, query.calls_after) == (100, 200)
    assert query.mean_before_ms == pytest.approx(12.0)
    assert query.mean_after_ms == pytest.approx(1.0)
    assert "-91.7 %" in query.reason
    assert "all calls" not in query.reason
    assert "save 2200.0 of 2400.0 ms" in result.reason
    assert result.window_s == 300


def test_regressed_when_the_only_statement_is_slower() -> None:
    result = verify(phases(*old_and_new(spread(10.0, 50), spread(15.0, 50))), POLICY)
    assert result.verdict == "regressed"
    assert "50.0 %" in result.reason


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (spread(10.0, 100), spread(1.0, 29), "29 calls after, at least 30"),
        (spread(10.0, 100), [], "0 calls after"),
        (spread(10.0, 100), [1.0], "1 calls after"),
        (spread(10.0, 100), spread(9.2, 100), "below 10 %"),
        ([1.0, 100.0] * 30, [1.0, 80.0] * 30, "spread"),
    ],
)
def test_no_evidence_says_which_gate(before: list[float], after: list[float], words: str) -> None:
    result = verify(phases(*old_and_new(before, after)), POLICY)
    assert result.verdict == "no evidence"
    assert result.queries[0].verdict == "no evidence"
    assert words in result.queries[0].reason


def test_zero_variance_is_judged_and_said() -> None:
    early, same = [row([10.0] * 10)], [row([10.0] * 60)]
    result = verify(phases(early, same, same, [row([10.0] * 60 + [1.0] * 40)]), POLICY)
    assert result.verdict == "improved"
    assert "no spread on either side" in result.queries[0].reason
    equal = verify(phases(early, same, same, [row([10.0] * 100)]), POLICY)
    assert equal.verdict == "no evidence"


def test_few_calls_since_the_proposal_fall_back_to_everything_before_and_say_so() -> None:
    readings = old_and_new(spread(12.0, 5), spread(1.0, 50))
    result = verify(phases(*readings, resets=(T0 - timedelta(days=3),) * 4), POLICY)
    assert result.queries[0].calls_before == 45
    assert "all calls since the reset of 2026-02-26" in result.queries[0].reason
    assert verify(phases(None, *readings[1:]), POLICY).queries[0].calls_before == 45


def test_a_reset_during_the_observation_counts_from_there() -> None:
    readings = old_and_new(spread(12.0, 100), [])
    readings[3] = [row(spread(1.0, 150))]  # as many calls as at the end, but all of them new
    old, new = T0 - timedelta(days=1), T0 + timedelta(minutes=12)
    result = verify(phases(*readings, resets=(old, old, old, new)), POLICY)
    assert result.queries[0].calls_after == 150
    assert result.verdict == "improved"
    assert "began anew after the change" in result.queries[0].reason


def test_a_reset_between_proposal_and_start_is_said() -> None:
    readings = old_and_new(spread(12.0, 100), spread(1.0, 100))
    readings[1:] = [[row(v)] for v in (spread(12.0, 60), spread(12.0, 67), spread(12.0, 67) + spread(1.0, 100))]
    old, new = T0 - timedelta(days=1), T0 + timedelta(minutes=2)
    result = verify(phases(*readings, resets=(old, new, new, new)), POLICY)
    assert result.queries[0].calls_before == 60
    assert "between the proposal and the start" in result.queries[0].reason


def test_an_unknown_reset_time_is_not_taken_for_a_reset() -> None:
    readings = old_and_new(spread(12.0, 100), spread(1.0, 200))
    result = verify(phases(*readings, resets=(T0, T0, T0, None)), POLICY)
    assert result.queries[0].calls_after == 200


def test_rows_that_appear_and_vanish() -> None:
    readings = old_and_new(spread(12.0, 100), spread(1.0, 100))
    readings[3] = [row(spread(2.0, 40), queryid=2)]  # 1 was evicted, 2 is new
    result = verify(phases(*readings), POLICY)
    reasons = {q.queryid: (q.verdict, q.reason) for q in result.queries}
    assert reasons["1"][0] == reasons["2"][0] == result.verdict == "no evidence"
    assert "0 calls after" in reasons["1"][1]
    assert "0 calls before" in reasons["2"][1]


def test_one_statement_of_two_users_is_one_statement() -> None:
    def two(a: list[float], b: list[float]) -> list[dict[str, Any]]:
        return [row(a), row(b, userid=11)]

    first, second = spread(10.0, 20), spread(20.0, 20)
    result = verify(
        phases(two([], []), two(first, second), two(first, second), two(first + spread(1.0, 20), second + spread(3.0, 20))),
        POLICY,
    )
    (query,) = result.queries
    assert (query.calls_before, query.calls_after) == (40, 40)
    assert query.mean_before_ms == pytest.approx(15.0)
    assert query.mean_after_ms == pytest.approx(2.0)


def together(*statements: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[item for statement in statements for item in statement[phase]] for phase in range(4)]


def test_a_small_regression_does_not_outvote_but_is_named_and_a_heavy_one_wins() -> None:
    better = old_and_new(spread(100.0, 100), spread(10.0, 100))
    light = verify(phases(*together(better, old_and_new(spread(1.0, 100), spread(2.0, 100), 2))), POLICY)
    assert {q.queryid: q.verdict for q in light.queries} == {"1": "improved", "2": "regressed"}
    assert light.verdict == "improved"
    assert "1 slower by 100.0 ms" in light.reason
    heavy = verify(phases(*together(better, old_and_new(spread(10.0, 100), spread(20.0, 100), 2))), POLICY)
    assert heavy.verdict == "regressed"
    assert "statement 2" in heavy.reason


def test_hidden_statements_are_counted() -> None:
    readings = old_and_new(spread(10.0, 50), spread(1.0, 50))
    for reading in readings:
        reading.append(row([1.0], query="<insufficient privilege>") | {"queryid": None})
    assert "1 statements are hidden" in verify(phases(*readings), POLICY).reason


def test_missing_phases_are_named() -> None:
    stats = phases(*old_and_new(spread(10.0, 50), spread(1.0, 50)))
    del stats["end"]
    result = verify(stats, POLICY)
    assert result.verdict == "no evidence"
    assert "end" in result.reason
    assert verify({}, POLICY).verdict == "no evidence"


def test_hostile_query_text_is_cleaned() -> None:
    readings = [[row(spread(1.0, 5), query="select '\x1b]52;c;x\x07'")] for _ in range(4)]
    assert "\x1b" not in verify(phases(*readings), POLICY).queries[0].query
