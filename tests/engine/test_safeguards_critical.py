"""The limits of a running build, each at its edge, and the two looks that it takes to stop one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.pressure import Pressure
from indexpilot_tui.engine.observe.pulse import Pulse, Wait
from indexpilot_tui.engine.observe.replication import Standby
from indexpilot_tui.engine.safeguards.critical import Sign, cpu_signs, lag_signs, load_signs, write_signs
from indexpilot_tui.engine.safeguards.table_writes import Before, Writes
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.safeguards import CpuThrottle, CriticalLoad, Replicas, WritePerformance
from indexpilot_tui.settings.validated import validated
from tests.tui import sample

LIMITS = CriticalLoad(max_active_backends=10, max_lock_waiters=5, max_lwlock_waits=3, max_io_waits=4)
STANDBY = Standby("one", "", "streaming", "async", 0.0, 0.0, 1.0, None, 0.0, 0.1, True)


def pulse(**changed: Any) -> Pulse:
    quiet = Pulse(
        at=sample.NOW, started=sample.NOW, in_recovery=False, hidden=0, active_backends=1, on_cpu=0, idle_in_transaction=0,
        lock_waiters=0, waits=(), oldest_xact_s=0.0, oldest_xact_pid=None, oldest_xact_query="", oldest_snapshot_s=0.0,
        prepared_xacts=0, oldest_prepared_s=None, builds=1, client_backends=2, max_connections=100, reserved_connections=3,
        commits=0, rollbacks=0, temp_bytes=0, deadlocks=0, wal_position=0.0, checkpoints_timed=0, checkpoints_requested=0,
        began=sample.NOW, ms=0.0, round_ms=0.0,
    )  # fmt: skip
    return replace(quiet, **changed)


def waits(kind: str, sessions: int) -> tuple[Wait, ...]:
    return (Wait(1, kind, "a", sessions - 1), Wait(2, kind, "b", 1), Wait(3, "Client", "c", 99))


@pytest.mark.parametrize(
    ("at", "past"),
    [
        ({"active_backends": 11}, {"active_backends": 12}),  # our own build is one of them
        ({"lock_waiters": 5}, {"lock_waiters": 6}),
        ({"waits": waits("LWLock", 3)}, {"waits": waits("LWLock", 4)}),
        ({"waits": waits("IO", 4)}, {"waits": waits("IO", 5)}),
    ],
)
def test_load_at_its_limit(at: dict[str, Any], past: dict[str, Any]) -> None:
    assert load_signs(pulse(**at), LIMITS) == []
    assert [s.guard for s in load_signs(pulse(**past), LIMITS)] == ["critical_load"]
    assert load_signs(pulse(**past), CriticalLoad(enabled=False)) == []
    unlimited = CriticalLoad(max_active_backends=None, max_lock_waiters=None, max_lwlock_waits=None, max_io_waits=None)
    assert load_signs(pulse(**past), unlimited) == []


@pytest.mark.parametrize("changed", [{"hidden": 1}, {"active_backends": None}, {"lock_waiters": None}, {"waits": None}])
def test_load_that_is_hidden_is_not_calm(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="hidden"):
        load_signs(pulse(**changed), LIMITS)


def test_cpu_at_its_limit() -> None:
    policy = CpuThrottle(max_cpu_during_creation=95)
    assert cpu_signs(0, "x", policy) == []
    assert cpu_signs(95, "x", policy) == []
    assert [s.guard for s in cpu_signs(95.1, "x", policy)] == ["cpu"]
    with pytest.raises(ValueError, match="cannot be"):
        cpu_signs(-1, "x", policy)


def test_lag_at_its_limit() -> None:
    limits = Replicas(max_replay_lag_seconds=1, critical_replay_lag_seconds=60)
    assert lag_signs((), limits) == []
    assert lag_signs((replace(STANDBY, replay_s=60.0),), limits) == []
    late = replace(STANDBY, replay_s=60.1)
    assert [s.guard for s in lag_signs((STANDBY, late), limits)] == ["replica_lag"]
    assert lag_signs((late,), replace(limits, enabled=False)) == []
    assert lag_signs((replace(late, state="backup"),), limits) == []
    with pytest.raises(ValueError, match="not known yet"):
        lag_signs((replace(late, reply_s=None),), limits)


POLICY = WritePerformance(
    critical_latency_factor=3, critical_latency_ms=20, critical_tps_drop=0.5, write_overhead_threshold=0.25,
    max_write_latency_ms=100,
)  # fmt: skip
BEFORE = Before(Writes(100, 10.0, 1.0), 1000.0)


@pytest.mark.parametrize(
    ("now", "xacts", "before", "stops"),
    [
        (Writes(50, 30.01, 1.0), 500.0, BEFORE, True),  # slower, and half of the transactions are left
        (Writes(50, 30.0, 1.0), 500.0, BEFORE, False),  # three times as long is the limit
        (Writes(50, 30.01, 1.0), 500.1, BEFORE, False),  # latency alone is weak
        (Writes(50, 30.01, 0.74), 1000.0, BEFORE, True),  # updates are not HOT any more
        (Writes(50, 30.01, 0.75), 1000.0, BEFORE, False),
        (Writes(50, 19.9, 0.0), 1.0, Before(Writes(9, 0.1, 1.0), 1000.0), False),  # many times as long, and still quick
        (Writes(50, 20.0, 0.0), 1.0, Before(Writes(9, 0.1, 1.0), 1000.0), True),
        (Writes(0, None, None), 1.0, BEFORE, False),
        (Writes(50, 101.0, 0.0), 1.0, None, True),  # taken over: the limit of the start, alone
        (Writes(50, 100.0, 0.0), 1.0, None, False),
        (Writes(50, 101.0, None), None, Before(Writes(0, None, None), None), True),  # nobody wrote before
        (Writes(50, 101.0, None), 400.0, Before(Writes(0, None, None), 1000.0), True),
        (Writes(50, 101.0, None), 900.0, Before(Writes(0, None, None), 1000.0), False),
    ],
)
def test_writes_that_suffer(now: Writes, xacts: float | None, before: Before | None, stops: bool) -> None:
    signs = write_signs(now, xacts, before, POLICY)
    assert [s.guard for s in signs] == (["writes"] if stops else [])
    assert write_signs(now, xacts, before, WritePerformance(enabled=False)) == []


class Looks(Pressure):
    """Answers that the test gives in place of a server's, one a look."""

    answers: list[Any]

    async def _signs(self) -> list[Sign]:
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)


HOT = Sign("cpu", "99 %", "95 %", "the server's CPU is at 99 %")
BUSY = Sign("critical_load", "9", "5", "9 sessions")


async def guard(answers: list[Any], phase: str = "building index: scanning table") -> tuple[Any, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    settings = validated(Settings, {"production_safeguards": {"critical_load": {"interval_seconds": 0.2}}})
    hold = SimpleNamespace(later=lambda action, detail: told.append(detail))
    pressure = Looks(SimpleNamespace(settings=settings, hold=hold), SimpleNamespace(pid=1), phase)  # type: ignore[arg-type]
    pressure.answers = answers
    pressure.start()
    await asyncio.sleep(0.2 * len(answers) + 0.3)
    stop = pressure.verdict
    await pressure.close()
    return stop, told


async def test_two_looks_in_a_row_stop_a_build_and_one_is_told() -> None:
    stop, told = await guard([[HOT], [HOT]])
    assert (stop.guard, stop.value, stop.limit, stop.retry) == ("cpu", "99 %", "95 %", True)
    assert stop.sentence.endswith("seen twice")
    assert [t["guard"] for t in told] == ["cpu"]
    stop, told = await guard([[HOT], [], [HOT], []])
    assert (stop, len(told)) == (None, 2)
    assert (await guard([[HOT], [BUSY], [HOT]]))[0] is None  # not the same
    assert (await guard([[HOT, BUSY], [BUSY]]))[0].guard == "critical_load"


async def test_what_cannot_be_read_twice_stops_a_build() -> None:
    for error in (ServerError("no"), TimeoutError(), ValueError("null"), OSError("lost"), KeyError("x"), TypeError("none")):
        stop, _ = await guard([error, error])
        assert (stop.guard, stop.value) == ("pressure", "not measured")
    assert (await guard([ServerError("no"), [], ServerError("no")]))[0] is None


async def test_a_guard_that_has_died_stops_a_build() -> None:
    stop, _ = await guard([RuntimeError("a defect")])
    assert "has ended" in stop.sentence


@pytest.mark.parametrize("phase", ["", "waiting for old snapshots", "waiting for writers before build", "initializing"])
async def test_while_a_build_waits_nobody_looks(phase: str) -> None:
    assert await guard([[HOT], [HOT], [HOT]], phase) == (None, [])


async def test_validation_is_work_too() -> None:
    assert (await guard([[HOT], [HOT]], "index validation: scanning table"))[0] is not None
