"""The guards' judgement, as a pure function of what is seen and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from indexpilot_tui.engine.changes.guard import PHASE_BEFORE_BUILD, Judge, Reading, Rules, Waiter
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.settings.model import Observer, Window
from tests.engine.journal_room import make_plan

QUIET = Reading(
    now=datetime(2026, 6, 10, 3, tzinfo=UTC), gone=False, idle=False, waits_for="", phase="building index", index_oid=None,
    locker=None, lockers=(0, 0), blocks=(0, 0), waiters=(),
)  # fmt: skip
BUILD = Rules("create", None)


def seen(**changed: Any) -> Reading:
    return replace(QUIET, **changed)


def guard_after(reading: Reading, seconds: float, rules: Rules = BUILD) -> str | None:
    """Which guard stops a build that looks like this for so long, seen twice a second."""
    judge = Judge(Observer(), rules)
    for tick in range(int(seconds * 2) + 1):
        stop = judge.judge(reading, tick / 2)
        if stop is not None:
            return stop.guard
    return None


def waiter(mode: str, waited: float = 0.0) -> tuple[Waiter, ...]:
    return (Waiter(7, mode, waited, "deploy"),)


def test_a_quiet_build_goes_on() -> None:
    assert guard_after(QUIET, 3600) is None


def test_who_waits_is_given_way_sooner_if_he_stops_all_traffic() -> None:
    analyze, alter = seen(waiters=waiter("ShareUpdateExclusiveLock")), seen(waiters=waiter("AccessExclusiveLock"))
    assert guard_after(alter, 0.5) is None
    assert guard_after(alter, 1.0) == "yield"
    assert guard_after(analyze, 1.5) is None
    assert guard_after(analyze, 2.0) == "yield"


def test_the_servers_own_measure_counts_at_once() -> None:
    assert guard_after(seen(waiters=waiter("AccessExclusiveLock", 0.9)), 0) == "yield"


def test_somebody_else_who_waits_starts_anew() -> None:
    judge = Judge(Observer(), BUILD)
    for tick in range(20):
        reading = seen(waiters=(Waiter(tick, "AccessExclusiveLock", 0.0, "short"),))
        assert judge.judge(reading, tick / 2) is None


def test_the_first_lock() -> None:
    waiting = seen(phase="", waits_for="relation")
    assert guard_after(waiting, 5) is None
    assert guard_after(waiting, 6) == "initial_lock"
    assert guard_after(seen(phase="", waits_for="virtualxid"), 60) is None


def test_only_the_wait_before_the_build_is_cut_short() -> None:
    assert guard_after(seen(phase=PHASE_BEFORE_BUILD, waits_for="virtualxid"), 301) == "waiting_phase"
    assert guard_after(seen(phase="waiting for old snapshots", waits_for="virtualxid"), 3600) is None
    assert guard_after(seen(phase=PHASE_BEFORE_BUILD), 301, Rules("drop", None)) is None


def test_the_end_of_the_window() -> None:
    night = Window(start_hour=2, end_hour=6)
    rules = Rules("create", night)
    late = seen(now=datetime(2026, 6, 10, 6, tzinfo=UTC))
    assert guard_after(QUIET, 0, rules) is None
    assert guard_after(late, 0, rules) == "window_end"
    assert guard_after(late, 0, Rules("drop", night)) is None  # half a drop is worse than a late one
    assert guard_after(late, 0, BUILD) is None  # a way back has no end


def test_a_clean_up_gives_way_as_well() -> None:
    assert guard_after(seen(waiters=waiter("AccessExclusiveLock", 1.0)), 0, Rules("clean", None)) == "yield"
    assert not Rules("clean", None).abortable


def test_the_old_index_in_the_progress_view_is_not_taken_for_its_copy() -> None:
    """The view shows the old index while its copy is made, and again while it is marked dead."""

    class Hold:
        rows: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012

        def later(self, action: str, detail: dict[str, Any]) -> None:
            self.rows.append((action, detail))

    plan = make_plan(kind="reindex", index_oid=7)
    now = datetime(2026, 6, 10, 3, tzinfo=UTC)
    change = Change(1, State.RUNNING, 1, "reindex", plan, plan.sha256, "t", "r", None, "alice", now, now)
    work = Work(None, None, Hold(), change, None)  # type: ignore[arg-type]
    for oid in (7, 8, 8, 7):
        work.index_seen(oid)
    assert work.copy_oid == 8
    assert Hold.rows == [("copy", {"oid": 8})]
