"""The maintenance window: zones, nights on which clocks change, windows over midnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.safeguards.maintenance_window import opening
from indexpilot_tui.settings.model import Window
from indexpilot_tui.settings.validated import validated

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def window(start: str, end: str, days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6), zone: str = "Europe/Berlin") -> Window:
    (sh, sm), (eh, em) = start.split(":"), end.split(":")
    return Window(
        start_hour=int(sh), start_minute=int(sm), end_hour=int(eh), end_minute=int(em), days_of_week=days, timezone=zone
    )


def test_plain_night() -> None:
    w = window("02:00", "06:00")
    assert not opening(w, at("2026-06-10T01:59:59")).open
    assert opening(w, at("2026-06-10T02:00:00")).open
    assert opening(w, at("2026-06-10T05:59:59")).closes_at == at("2026-06-10T06:00:00")
    closed = opening(w, at("2026-06-10T06:00:00"))
    assert not closed.open
    assert closed.opens_at == at("2026-06-11T02:00:00")


def test_the_zone_is_the_windows_not_the_readers() -> None:
    w = window("02:00", "06:00", zone="Asia/Tokyo")
    assert opening(w, datetime(2026, 6, 9, 17, 30, tzinfo=UTC)).open  # 02:30 of the 10th in Tokyo
    assert not opening(w, datetime(2026, 6, 10, 2, 30, tzinfo=UTC)).open


def test_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    monday_night = window("22:00", "02:00", days=(0,))
    assert opening(monday_night, at("2026-06-08T23:00")).open  # Monday
    assert opening(monday_night, at("2026-06-09T01:00")).open  # Tuesday morning: still Monday's window
    assert not opening(monday_night, at("2026-06-08T01:00")).open  # Monday morning would be Sunday's
    assert opening(monday_night, at("2026-06-09T03:00")).opens_at == at("2026-06-15T22:00")


def test_closed_is_closed_however_far_away_the_opening_is() -> None:
    w = window("02:00", "06:00", days=(6,))
    state = opening(w, at("2026-06-08T00:00"))  # Monday
    assert not state.open
    assert state.opens_at == at("2026-06-14T02:00")


def test_spring_forward_start_in_the_gap_opens_at_its_end() -> None:
    w = window("02:30", "05:00")
    assert not opening(w, datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)).open  # 01:59:59 CET
    state = opening(w, datetime(2026, 3, 29, 1, 0, 0, tzinfo=UTC))  # 03:00 CEST: 02:30 never was
    assert state.open
    assert state.closes_at == datetime(2026, 3, 29, 3, 0, tzinfo=UTC)
    assert opening(w, at("2026-03-28T12:00")).opens_at == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_spring_forward_end_in_the_gap_closes_at_its_end() -> None:
    w = window("01:00", "02:30")
    assert opening(w, datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)).open
    assert not opening(w, datetime(2026, 3, 29, 1, 0, 0, tzinfo=UTC)).open


def test_autumn_back_the_hour_that_comes_twice() -> None:
    w = window("02:30", "05:00")
    assert opening(w, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)).open  # the first 02:30
    assert opening(w, datetime(2026, 10, 25, 1, 10, tzinfo=UTC)).open  # the second 02:10: it has begun
    ends = window("01:00", "02:30")
    assert opening(ends, datetime(2026, 10, 25, 1, 29, tzinfo=UTC)).open  # the second 02:29
    assert not opening(ends, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)).open


def test_switched_off_is_always_open() -> None:
    assert opening(Window(enabled=False), at("2026-06-10T12:00")).open


@given(
    start=st.integers(0, 1439),
    length=st.integers(1, 1439),
    days=st.sets(st.integers(0, 6), min_size=1),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    minutes=st.integers(0, 2 * 365 * 1440),
)
def test_what_it_promises_holds(start: int, length: int, days: set[int], zone: str, minutes: int) -> None:
    end = (start + length) % 1440
    w = Window(
        start_hour=start // 60, start_minute=start % 60, end_hour=end // 60, end_minute=end % 60,
        days_of_week=tuple(days), timezone=zone,
    )  # fmt: skip
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    state = opening(w, now)
    if state.open:
        assert state.closes_at is not None
        assert now < state.closes_at <= now + timedelta(hours=26)
        assert opening(w, state.closes_at - timedelta(seconds=1)).open
    else:
        assert state.opens_at is not None
        assert now < state.opens_at <= now + timedelta(days=9)
        assert opening(w, state.opens_at).open
        assert not opening(w, state.opens_at - timedelta(seconds=1)).open


@pytest.mark.parametrize("bad", [{"start_hour": 24}, {"days_of_week": ()}, {"timezone": "Mars/Olympus"}])
def test_what_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="."):
        validated(Window, bad)
