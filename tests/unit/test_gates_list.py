"""The list of gates itself: who is asked, what lifts it, how long leave is good for; and the window at its edges."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards import clearance, gates, maintenance_window
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear, clear_own
from indexpilot_tui.engine.safeguards.context import BYPASS_SCOPES, Gate, GateContext
from indexpilot_tui.engine.safeguards.gates import GATES, carry_since, evaluate, unreadable
from indexpilot_tui.engine.safeguards.maintenance_window import duration, longest, opening
from indexpilot_tui.errors import NotInstalledError, RefusedError, ServerError
from indexpilot_tui.settings.model import Window
from tests.unit.desk import NOW, PLAN, Book, Desk, context, only

FLAGS = {
    # gate: asked without a plan, holds a rollback, lifted by
    "tls": (True, True, ""), "server_version": (True, True, ""), "primary": (True, True, ""),
    "direct_session": (True, True, ""), "privilege": (False, True, ""), "kill_switch": (True, True, ""),
    "approval": (False, True, ""), "clock": (True, False, ""), "maintenance_window": (True, False, "window"),
    "rate_limit": (True, False, "rate"), "query_rate": (True, False, "rate"), "one_at_a_time": (True, True, ""),
    "load": (True, False, "load"), "cpu_throttle": (True, False, "load"), "replicas": (True, True, ""),
    "disk": (True, True, ""), "storage_budget": (True, False, ""), "backup": (True, False, ""),
    "write_performance": (False, False, ""), "blockers": (True, True, ""), "same_table_ddl": (False, True, ""),
    "leftovers": (False, True, ""),
}  # fmt: skip


def test_nothing_more_than_this_is_let_through() -> None:
    assert {g.name: (g.target_wide, g.holds_rollback, g.lifted_by) for g in GATES} == FLAGS
    assert [g.name for g in gates.CLEANING_GATES] == ["tls", "primary", "direct_session", "privilege"]
    assert set(BYPASS_SCOPES) == {"window", "rate", "load"}
    with pytest.raises(ValueError, match="no bypass lifts"):
        Gate("g", "", answering(Status.PASS), lifted_by="approval")


def answering(status: Status) -> Any:
    async def read(ctx: GateContext) -> list[Verdict]:
        return [Verdict("g", status, "", "", "", "said")]

    return read


def bypass(*scope: str, left: float = 60.0) -> Any:
    return SimpleNamespace(scope=frozenset(scope), until=NOW + timedelta(seconds=left), by="bob", reason="r")


@pytest.mark.parametrize(
    ("lifted_by", "lifted", "allowed"),
    [
        ("load", bypass("load"), True), ("load", bypass("window"), False), ("", bypass("load"), False), ("load", None, False),
        ("load", bypass("load", left=0.001), True), ("load", bypass("load", left=0.0), False),
        ("load", ServerError("away"), False),
    ],
)  # fmt: skip
async def test_a_bypass_lifts_its_scope_until_its_end(lifted_by: str, lifted: Any, allowed: bool) -> None:
    gate = Gate("g", "", answering(Status.WAIT), lifted_by=lifted_by)
    (v,) = await evaluate(context(journal=Book(lifted=lifted)), [gate])
    assert v.allows is allowed
    assert ("lifted by bypass of bob" in v.evidence) is allowed
    assert not (await evaluate(context(journal=None), [gate]))[0].allows


@pytest.mark.parametrize(("rollback", "holds", "allowed"), [(True, False, True), (True, True, False), (False, False, False)])
async def test_a_way_back_is_held_by_some(rollback: bool, holds: bool, allowed: bool) -> None:
    (v,) = await evaluate(context(rollback=rollback), [Gate("g", "", answering(Status.BLOCK), holds_rollback=holds)])
    assert v.allows is allowed
    (v,) = await evaluate(context(rollback=True), [Gate("g", "", answering(Status.PASS), holds_rollback=False)])
    assert v.evidence == "said"


@pytest.mark.parametrize(
    ("name", "parts", "said"), [("g", (), True), ("h", (), False), ("g.heat", (), False), ("g.heat", ("heat",), True)]
)
async def test_a_gate_says_nothing_under_a_name_that_it_has_not_declared(
    name: str, parts: tuple[str, ...], said: bool
) -> None:
    async def read(ctx: GateContext) -> list[Verdict]:
        return [Verdict(name, Status.PASS, "", "", "", "said")]

    (v,) = await evaluate(context(), [Gate("g", "", read, parts=parts)])
    assert (v.guard, v.status) == ((name, Status.PASS) if said else ("g", Status.UNKNOWN))
    assert said or f"a name that it does not have: {name}" in v.evidence


async def test_a_gate_about_a_plan_is_asked_with_one() -> None:
    primed: list[str] = []

    async def prime(ctx: GateContext) -> None:
        primed.append("x")
        raise ValueError("tried again by the gate")

    gate = Gate("g", "", answering(Status.PASS), prime=prime)
    assert len(await evaluate(context(), [gate])) == 1
    assert await evaluate(context(plan=None), [gate]) == []
    assert len(await evaluate(context(plan=None), [replace(gate, target_wide=True)])) == 1
    assert primed == ["x", "x"]


def test_why_a_gate_could_not_be_read() -> None:
    gate = Gate("g", "s", answering(Status.PASS))
    for error, text in (
        (TimeoutError(), "no answer within 6 s"), (NotInstalledError("none", remedy="setup"), "none: setup"),
        (ServerError("refused", remedy="x"), "refused"), (ValueError("null"), "null"), (KeyError(), "KeyError"),
    ):  # fmt: skip
        v = unreadable(gate, error)
        assert (v.status, v.evidence) == (Status.UNKNOWN, f"could not be read: {text}")


def test_since_when() -> None:
    old = Verdict("g", Status.PASS, "", "", "", "", NOW - timedelta(hours=1))
    new = replace(old, since=None)
    assert carry_since([old], [new], NOW)[0].since == old.since
    assert carry_since([], [new], NOW)[0].since == NOW
    assert carry_since([replace(old, status=Status.WAIT)], [new], NOW)[0].since == NOW
    assert carry_since([replace(old, since=None)], [new], NOW)[0].since == NOW


def test_a_context_knows_its_sessions() -> None:
    door = Desk({}, replace(context().session.facts, server_pid=7))
    assert context().own_pids == [100]
    assert context(executor=door).own_pids == [7, 100]
    assert context().the_plan is PLAN
    with pytest.raises(ValueError, match="needs a plan"):
        _ = context(plan=None).the_plan


async def test_an_estimate_that_nobody_can_make_is_none() -> None:
    with pytest.raises(ValueError, match="no estimate"):
        await context().the_estimate()


CLAIM: Any = SimpleNamespace(change_id=1, epoch=3)
RIGHT: dict[str, Any] = {
    "plan_sha256": PLAN.sha256, "system_identifier": PLAN.system_identifier, "database": PLAN.database, "epoch": 3,
}  # fmt: skip


async def test_leave_is_good_for_eight_seconds_from_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def slow(ctx: GateContext, of: Any = GATES) -> list[Verdict]:
        clock[0] += 5
        return [Verdict("g", Status.PASS, "", "", "", "")]

    monkeypatch.setattr(clearance, "evaluate", slow)
    for make, deed in ((lambda: clear(context(), CLAIM), "change"), (lambda: clear_own(context(), CLAIM, "clean"), "clean"),
                       (lambda: clear_own(context(), CLAIM, "finish"), "finish")):  # fmt: skip
        began = clock[0]
        given = await make()
        assert isinstance(given, Clearance)
        for at, good in ((began, True), (began + 8, True), (began + 8.001, False), (began - 0.001, False)):
            clock[0] = at
            if good:
                given.check(**RIGHT, deed=deed)
            else:
                with pytest.raises(RefusedError, match="asked again"):
                    given.check(**RIGHT, deed=deed)
        clock[0] = began
        for wrong in ({"plan_sha256": "x"}, {"system_identifier": "x"}, {"database": "x"}, {"epoch": 4}):
            with pytest.raises(RefusedError, match="another"):
                given.check(**(RIGHT | wrong), deed=deed)
        with pytest.raises(RefusedError, match="another"):
            given.check(**RIGHT, deed="else")
    with pytest.raises(RefusedError, match="without all gates"):
        await clear_own(context(), CLAIM, "change")
    with pytest.raises(RefusedError, match="safeguards only"):
        Clearance("sha", "1", "db", 1, 1, "change", 100.0, object())


@pytest.mark.parametrize("status", [Status.WAIT, Status.BLOCK, Status.UNKNOWN])
async def test_no_leave_past_a_refusal(monkeypatch: pytest.MonkeyPatch, status: Status) -> None:
    async def refused(ctx: GateContext, of: Any = GATES) -> list[Verdict]:
        return [Verdict("a", Status.PASS, "", "", "", ""), Verdict("b", status, "", "", "", "")]

    monkeypatch.setattr(clearance, "evaluate", refused)
    assert isinstance(await clear(context(), CLAIM), list)
    assert isinstance(await clear_own(context(), CLAIM, "clean"), list)


def taking(seconds: float | None) -> Any:
    async def ask() -> BuildEstimate:
        return BuildEstimate(1, 0, 0, seconds, "", "")

    return ask


NIGHT = Window(start_hour=2, end_hour=6)  # NOW is 03:00


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (10_799.9, Status.PASS), (10_800.0, Status.WAIT), (14_399.9, Status.WAIT), (14_400.0, Status.BLOCK), (None, Status.PASS),
    ],
)  # fmt: skip
async def test_what_does_not_end_in_the_window(seconds: float | None, expected: Status) -> None:
    v = await only(maintenance_window.GATE, context(estimate=taking(seconds)))
    assert v.status is expected
    if expected is Status.WAIT:
        assert v.retry_at == NOW + timedelta(hours=23)
    for free in ({"rollback": True}, {"plan": None}):
        assert (await only(maintenance_window.GATE, context(**free))).allows  # without an estimate


async def test_a_window_that_is_closed_waits_and_one_that_never_opens_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    v = await only(maintenance_window.GATE, context(now=NOW + timedelta(hours=3)))
    assert (v.status, v.retry_at) == (Status.WAIT, NOW + timedelta(hours=23))
    off = context(now=NOW + timedelta(hours=3), guards={"maintenance_window": {"enabled": False}})
    assert (await only(maintenance_window.GATE, off)).allows
    for state, expected in (
        (maintenance_window.Opening(False, None, None), Status.BLOCK),
        (maintenance_window.Opening(True, None, None), Status.BLOCK),  # open without an end is no window
    ):
        monkeypatch.setattr(maintenance_window, "opening", lambda window, now, state=state: state)
        assert (await only(maintenance_window.GATE, context())).status is expected


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_window_at_its_edges() -> None:
    moment = timedelta(microseconds=1)
    start, end = at("2026-06-10T02:00"), at("2026-06-10T06:00")
    assert not opening(NIGHT, start - moment).open
    assert opening(NIGHT, start - moment).opens_at == start
    assert opening(NIGHT, start).closes_at == end
    assert opening(NIGHT, end - moment).open
    closed = opening(NIGHT, end)
    assert (closed.open, closed.opens_at) == (False, start + timedelta(days=1))
    over = Window(start_hour=22, end_hour=2, days_of_week=(0,))  # Monday
    assert opening(over, at("2026-06-09T01:59:59")).closes_at == at("2026-06-09T02:00")
    assert opening(over, at("2026-06-09T02:00")).opens_at == at("2026-06-15T22:00")
    sunday = Window(start_hour=2, end_hour=3, days_of_week=(6,))
    assert opening(sunday, at("2026-06-14T03:00")).opens_at == at("2026-06-21T02:00")  # a week and not a minute later
    assert longest(NIGHT) == timedelta(hours=4)
    assert longest(over) == timedelta(hours=4)
    assert longest(Window(start_hour=2, end_hour=2, end_minute=1)) == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("zone", "start", "end", "opens", "closes"),
    [
        # forward: 02:00 is followed by 03:00 (CET to CEST at 01:00 UTC)
        ("Europe/Berlin", (2, 30), (5, 0), "2026-03-29T01:00", "2026-03-29T03:00"),
        ("Europe/Berlin", (1, 0), (2, 30), "2026-03-29T00:00", "2026-03-29T01:00"),
        ("Europe/Berlin", (2, 0), (3, 0), None, None),  # the whole window is in the gap
        # back: 02:00 to 03:00 comes twice (at 00:00 and at 01:00 UTC)
        ("Europe/Berlin", (2, 30), (5, 0), "2026-10-25T00:30", "2026-10-25T04:00"),
        ("Europe/Berlin", (1, 0), (2, 30), "2026-10-24T23:00", "2026-10-25T01:30"),
        # a gap of half an hour
        ("Australia/Lord_Howe", (2, 15), (5, 0), "2026-10-03T15:30", "2026-10-03T18:00"),
    ],
)
def test_the_nights_on_which_clocks_change(
    zone: str, start: tuple[int, int], end: tuple[int, int], opens: str | None, closes: str | None
) -> None:
    window = Window(start_hour=start[0], start_minute=start[1], end_hour=end[0], end_minute=end[1], timezone=zone)
    if opens is None or closes is None:
        for now in ("2026-03-29T00:30", "2026-03-29T01:00"):
            assert opening(window, at(now)).opens_at == at("2026-03-30T00:00")
        return
    assert not opening(window, at(opens) - timedelta(microseconds=1)).open
    assert opening(window, at(opens)).closes_at == at(closes)
    assert not opening(window, at(closes)).open


def test_every_start_within_the_gap_is_its_end() -> None:
    gap = at("2026-03-29T01:00")
    for minute in range(60):
        window = Window(start_hour=2, start_minute=minute, end_hour=5, timezone="Europe/Berlin")
        assert opening(window, gap - timedelta(minutes=1)).opens_at == gap


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.94, "9.9 s"), (10.0, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.4, "59 min 59 s"), (3600, "1 h 0 min")],
)
def test_lengths_of_time_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_the_clock_of_the_database() -> None:
    assert await gates.database_now(Desk({"other": NOW})) == NOW  # type: ignore[arg-type]
    with pytest.raises(ServerError, match="no time"):
        await gates.database_now(Desk({"other": None}))  # type: ignore[arg-type]
