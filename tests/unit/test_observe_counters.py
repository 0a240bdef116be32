"""Two reads of the counters and what may be said of the time between them."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.observe.counters import Counters, Key, Read, between, pooled_stddev, read_of, stddev_of_growth
from indexpilot_tui.engine.observe.history import HISTORY_S, MAX_HISTORIES, Histories
from indexpilot_tui.engine.observe.hotspots import HotspotTracker
from indexpilot_tui.errors import UsageError

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
KEY: Key = (10, 1, True)


def counters(calls: int, total_ms: float = 0.0) -> Counters:
    return Counters(calls, total_ms or calls * 2.0, 0.5, calls * 3, calls * 9, calls, 0, calls * 100.0)


def read(
    after_s: float,
    entries: dict[Key, Counters],
    *,
    reset: datetime | None = T0,
    started: datetime = T0,
    evicted: int | None = 0,
    hidden: int = 0,
) -> Read:
    return Read(T0 + timedelta(seconds=after_s), started, reset, evicted, entries, hidden)


def test_first_read_has_no_interval() -> None:
    interval = between(None, read(0, {KEY: counters(1_000_000)}))
    assert interval.seconds == 0
    assert not interval.growth


def test_growth_is_the_difference_and_not_the_lifetime() -> None:
    interval = between(read(0, {KEY: counters(1_000_000)}), read(2, {KEY: counters(1_000_010)}))
    assert interval.seconds == 2
    assert interval.growth[KEY].calls == 10
    assert interval.growth[KEY].total_ms == pytest.approx(20)
    assert not interval.new_epoch


def test_a_new_entry_counts_in_full_and_a_quiet_one_not_at_all() -> None:
    other: Key = (10, 2, True)
    interval = between(read(0, {KEY: counters(5)}), read(2, {KEY: counters(5), other: counters(7)}))
    assert set(interval.growth) == {other}
    assert interval.growth[other].calls == 7


def test_a_reset_starts_an_epoch_at_its_own_time() -> None:
    reset = T0 + timedelta(seconds=9)
    interval = between(read(0, {KEY: counters(500)}), read(10, {KEY: counters(4)}, reset=reset))
    assert interval.new_epoch
    assert "reset" in interval.note
    assert interval.seconds == pytest.approx(1)  # since the reset, not since the older read
    assert interval.growth[KEY].calls == 4


def test_a_reset_without_a_time_shows_in_counters_that_went_back() -> None:
    older = read(0, {KEY: counters(500), (10, 2, True): counters(300)}, reset=None, evicted=None)
    interval = between(older, read(2, {KEY: counters(4)}, reset=None, evicted=None))
    assert interval.new_epoch
    assert interval.growth[KEY].calls == 4


def test_one_evicted_entry_that_came_again_is_no_new_epoch() -> None:
    steady: Key = (10, 2, True)
    interval = between(
        read(0, {KEY: counters(500), steady: counters(10)}), read(2, {KEY: counters(3), steady: counters(12)}, evicted=1)
    )
    assert not interval.new_epoch
    assert "evicted" in interval.note
    assert interval.growth[KEY].calls == 3
    assert interval.growth[steady].calls == 2


def test_a_restart_and_a_clock_that_went_back_give_no_rate() -> None:
    older = read(10, {KEY: counters(5)})
    restarted = between(older, read(20, {KEY: counters(9)}, started=T0 + timedelta(seconds=15)))
    assert (restarted.seconds, restarted.new_epoch) == (0, True)
    assert "restarted" in restarted.note
    back = between(older, read(5, {KEY: counters(9)}))
    assert (back.seconds, back.new_epoch) == (0, True)
    assert "clock" in back.note


@given(
    before=st.dictionaries(st.integers(0, 20), st.integers(0, 10**9), max_size=20),
    after=st.dictionaries(st.integers(0, 20), st.integers(0, 10**9), max_size=20),
    seconds=st.floats(-100, 10_000),
    reset_s=st.none() | st.floats(-100, 10_000),
    restarted=st.booleans(),
)
def test_no_history_of_counters_gives_a_negative_rate(
    before: dict[int, int], after: dict[int, int], seconds: float, reset_s: float | None, restarted: bool
) -> None:
    reset = None if reset_s is None else T0 + timedelta(seconds=reset_s)
    older = read(0, {(1, q, True): counters(c) for q, c in before.items()})
    newer = read(
        seconds,
        {(1, q, True): counters(c) for q, c in after.items()},
        reset=reset,
        started=T0 + timedelta(seconds=1) if restarted else T0,
    )
    interval = between(older, newer)
    assert interval.seconds >= 0
    for key, grown in interval.growth.items():
        assert 0 < grown.calls <= newer.entries[key].calls
        assert grown.total_ms >= 0


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), st.lists(st.floats(0, 1e5), min_size=1, max_size=30))
def test_pooled_stddev_is_that_of_all_values(a: list[float], b: list[float]) -> None:
    def group(values: list[float]) -> tuple[int, float, float]:
        return len(values), math.fsum(values), statistics.pstdev(values)

    assert pooled_stddev(group(a), group(b)) == pytest.approx(statistics.pstdev([*a, *b]), rel=1e-6, abs=1e-3)


def test_rows_that_may_not_be_seen_are_counted_not_merged() -> None:
    def row(queryid: int | None) -> tuple[object, ...]:
        return (10, queryid, True, 7, 1.5, 0.0, 3, 2, 1, 0, 0.0, 4, 0.5, 0.25, 0.1)

    seen = read_of([row(1), row(None), row(None)], at=T0, server_started=T0)
    assert seen.hidden == 2
    assert seen.entries == {KEY: Counters(7, 1.5, 0.0, 3, 2, 1, 0, 0.0, 4, 0.5, 0.25, 0.1)}


def tracker_with(texts: dict[int, tuple[str, str]], own_user: str = "mon") -> HotspotTracker:
    tracker = HotspotTracker(own_user=own_user)
    tracker.learn({"queryid": q, "userid": 10, "user_name": user, "query": text} for q, (text, user) in texts.items())
    return tracker


def test_hotspots_rank_by_time_and_leave_our_own_reads_out() -> None:
    tracker = tracker_with(
        {
            1: ("select fast", "app"),
            2: ("select\n\x1b[2Jslow", "app"),
            3: ("/* indexpilot */\nselect ours", "mon"),
            4: ("select set_config($1) from pg_catalog.x", "mon"),
            5: ("select 1 from pg_catalog.pg_class", "app"),
            6: ("update orders set status = $1", "mon"),
        }
    )
    tracker.note(read(0, {}))
    entries = {(10, q, True): counters(10, total_ms=q * 10.0) for q in range(1, 7)}
    spots = tracker.hotspots(tracker.note(read(2, entries)))
    assert [s.queryid for s in spots.items] == [6, 5, 2, 1]  # an application that shares our login keeps its work
    assert sum(s.share for s in spots.items) == pytest.approx(1)
    assert spots.items[0].calls_per_s == 5
    assert spots.items[2].query == "select ␛[2Jslow"  # harmless, and on one line


def test_one_statement_of_two_users_is_one_hotspot() -> None:
    tracker = HotspotTracker()
    tracker.learn({"queryid": 1, "userid": u, "user_name": f"u{u}", "query": "select 1"} for u in (10, 11))
    tracker.note(read(0, {}))
    spots = tracker.hotspots(tracker.note(read(1, {(10, 1, True): counters(3), (11, 1, False): counters(4)})))
    assert [(s.calls_per_s, s.user) for s in spots.items] == [(7, "2 users")]
    assert tracker.detail(1).calls == 7
    with pytest.raises(UsageError, match="not among"):
        tracker.detail(99)


def test_history_keeps_zeroes_an_hour_and_no_more_statements_than_allowed() -> None:
    histories = Histories()
    histories.add(T0, 2, {1: counters(10)}, {1: counters(10)})
    histories.add(T0 + timedelta(seconds=2), 2, {}, {})
    assert [p.calls_per_s for p in histories.points(1)] == [5, 0]
    assert histories.trend(1, 24) == (10, 0)
    histories.add(T0 + timedelta(seconds=HISTORY_S + 1), 2, {1: counters(4)}, {1: counters(4)})
    assert [p.calls_per_s for p in histories.points(1)] == [0, 2]
    histories.add(T0 + timedelta(seconds=3 * HISTORY_S), 2, {}, {})
    assert histories.points(1) == ()
    many = {q: counters(1) for q in range(MAX_HISTORIES + 50)}
    histories.add(T0 + timedelta(seconds=3 * HISTORY_S + 2), 2, many, many)
    assert len(histories.tracks) == MAX_HISTORIES


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=40), st.lists(st.floats(0.001, 1e4), min_size=2, max_size=40))
def test_the_spread_of_an_interval_is_that_of_its_own_calls(before: list[float], after: list[float]) -> None:
    def state(values: list[float]) -> tuple[int, float, float]:
        return len(values), math.fsum(values), statistics.pstdev(values)

    told = stddev_of_growth(state(before), state([*before, *after]))
    true = statistics.pstdev(after)
    assert math.isnan(told) or told == pytest.approx(true, rel=0.1, abs=0.011 * statistics.fmean(after))


def test_a_spread_that_is_lost_in_the_rounding_is_not_told() -> None:
    old = (10**9, 1e13, 5_000.0)  # a billion calls of 10 s: the sum of their squares has no digit for two calls of 1 ms
    new = (10**9 + 2, 1e13 + 2.0, 5_000.0)
    assert math.isnan(stddev_of_growth(old, new))


def test_an_entry_that_has_come_again_with_more_calls_counts_anew() -> None:
    before = Counters(5, 900.0, 1.0, 500, 50, 50, 0, 0.0)
    again = Counters(7, 14.0, 0.5, 21, 63, 7, 0, 700.0)
    interval = between(read(0, {KEY: before}), read(2, {KEY: again}, evicted=1))
    assert interval.growth[KEY] == again
    assert interval.evictions == 1
