"""Gates on who acts, where and with whose leave, each at the edge of its comparison; no server is needed for that."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.postgres.session import Purpose
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.safeguards import (
    approval,
    clock,
    direct_session,
    kill_switch,
    one_at_a_time,
    primary,
    privilege,
    query_rate,
    rate_limit,
    server_version,
    tls,
)
from indexpilot_tui.errors import NotInstalledError
from tests.unit.desk import FACTS, NOW, PLAN, Book, Desk, change, context, only, status
from tests.unit.desk import approval as given

DAY = 86_400


async def test_an_approval_is_good_until_the_moment_at_which_it_ends() -> None:
    for left, expected in ((0.001, Status.PASS), (0.0, Status.BLOCK), (-1.0, Status.BLOCK)):
        assert await status(approval.GATE, context(change=change(approvals=(given(left=left),)))) is expected
    late_and_good = change(approvals=(given("bob", left=60), given("carol", left=-60)))
    assert (await only(approval.GATE, context(change=late_and_good))).evidence.startswith("by bob")


async def test_only_another_login_approves_and_only_this_plan() -> None:
    own = change(approvals=(given("alice"),))
    assert (await only(approval.GATE, context(change=own))).measured == "self"
    both = change(approvals=(given("alice"), given("bob")))
    assert (await only(approval.GATE, context(change=both))).allows
    assert (await only(approval.GATE, context(change=own, journal=Book(single=True)))).allows  # the site has one operator
    assert (await only(approval.GATE, context(change=change(approvals=())))).measured == "none"
    other = replace(given(), plan_sha256="0")
    assert (await only(approval.GATE, context(change=change(approvals=(other,))))).measured == "other plan"
    newer = replace(PLAN, ddl=f"{PLAN.ddl} ")
    assert (await only(approval.GATE, context(change=change(), plan=newer))).measured == "other plan"
    unproposed = await only(approval.GATE, context())
    assert (unproposed.status, unproposed.measured) == (Status.BLOCK, "not proposed")


@pytest.mark.parametrize(
    ("state", "claimed", "allowed"),
    [(State.APPROVED, False, True), (State.QUEUED, False, True), (State.PROPOSED, False, False), (State.STARTING, True, True),
     (State.STARTING, False, False)],
)  # fmt: skip
async def test_what_is_approved_may_start(state: State, claimed: bool, allowed: bool) -> None:
    assert (await only(approval.GATE, context(change=change(state), claimed=claimed))).allows is allowed


@pytest.mark.parametrize(("ago", "allowed"), [(DAY, True), (DAY + 0.001, False)])
async def test_an_approval_covers_the_way_back_for_a_day(ago: float, allowed: bool) -> None:
    parent = change(State.DONE, approvals=(given("bob", ago=ago, left=-1),))
    back = change(State.PROPOSED, approvals=(), covered=True)
    assert (await only(approval.GATE, context(change=back, parent=parent, rollback=True))).allows is allowed
    assert not (await only(approval.GATE, context(change=back, parent=parent))).allows  # what is no way back needs its own
    assert not (await only(approval.GATE, context(change=back, rollback=True))).allows
    other = replace(back, covered=False)  # not what was kept at the time of the deed
    assert not (await only(approval.GATE, context(change=other, parent=parent, rollback=True))).allows


async def test_looser_limits_than_those_that_were_approved_refuse() -> None:
    assert (await only(approval.GATE, context(change=change()))).allows
    for looser in ({"target_of": {"allow_unix_socket_changes": True}}, {"guards": {"throttle": {"max_lock_waiters": 6}}},
                   {"guards": {"backup": {"enabled": False}}}, {"settings_of": {"rate_limiter": {"index_creation": {"max_requests": 6}}}}):  # fmt: skip
        v = await only(approval.GATE, context(change=change(), **looser))
        assert (v.status, v.measured) == (Status.BLOCK, "looser limits"), looser
    stricter = {"guards": {"throttle": {"max_lock_waiters": 4}}, "target_of": {"environment": "production"}}
    assert (await only(approval.GATE, context(change=change(), **stricter))).allows
    without = replace(PLAN, terms={})  # of a plan that holds no limits nobody knows with which it was approved
    made = change(plan=without)
    assert (await only(approval.GATE, context(change=made, plan=without))).measured == "looser limits"


async def test_two_who_covered_it_the_last_is_named() -> None:
    parent = change(State.DONE, approvals=(given("bob"), given("carol")))
    v = await only(approval.GATE, context(change=change(State.PROPOSED, covered=True), parent=parent, rollback=True))
    assert v.evidence.endswith("by carol")


@pytest.mark.parametrize(
    ("version", "prepared", "refused"),
    [
        (129999, 0, True), (130000, 0, False), (130001, 1, True), (130001, 0, False), (130002, 1, False), (139999, 1, False),
        (140000, 0, True), (140003, 0, True), (140004, 0, False), (150000, 5, False),
    ],
)  # fmt: skip
async def test_versions_at_the_edge(version: int, prepared: int, refused: bool) -> None:
    v = await only(server_version.GATE, context({"server_version": {"version": version, "max_prepared": prepared}}))
    assert v.status is (Status.BLOCK if refused else Status.PASS)
    assert v.measured == f"{version // 10000}.{version % 10000}"


async def test_the_kill_switch() -> None:
    stopped = SimpleNamespace(starts_stopped=True, reason="incident", by="bob", max_starts=None, per_seconds=None)
    assert await status(kill_switch.GATE, context()) is Status.PASS
    assert await status(kill_switch.GATE, context(journal=Book(policies=stopped))) is Status.BLOCK
    with pytest.raises(NotInstalledError):
        await only(kill_switch.GATE, context(journal=None))


HERE = {"primary": {"in_recovery": False, "system_identifier": PLAN.system_identifier}}


async def test_changes_go_to_the_server_and_the_database_that_were_planned_for() -> None:
    assert (await only(primary.GATE, context(HERE))).measured == "primary"
    assert (await only(primary.GATE, context(HERE, plan=None))).allows
    standby = {"primary": HERE["primary"] | {"in_recovery": True}}
    assert (await only(primary.GATE, context(standby))).measured == "standby"
    other = {"primary": {"in_recovery": False, "system_identifier": "8"}}
    assert (await only(primary.GATE, context(other))).measured == "system 8"
    assert (await only(primary.GATE, context(other, plan=None))).allows  # nothing is planned for another one
    for wrong in ({"database": "other"}, {"system_identifier": "8"}):
        door = Desk({}, replace(FACTS, **wrong))  # type: ignore[arg-type]
        v = await only(primary.GATE, context(HERE, executor=door))
        assert (v.status, v.measured) == (Status.BLOCK, f"database {door.facts.database}")
        assert (await only(primary.GATE, context(HERE, executor=door, plan=None))).allows
    for nothing in ({"in_recovery": False, "system_identifier": None}, {"in_recovery": None}):
        with pytest.raises(ValueError, match="gave no"):
            await only(primary.GATE, context({"primary": nothing}))


async def test_one_process_greets_and_answers() -> None:
    assert (await only(direct_session.GATE, context({"own_pid": {"pid": 100}}))).allows
    assert (await only(direct_session.GATE, context({"own_pid": {"pid": 101}}))).status is Status.BLOCK
    pooled = Desk({}, replace(FACTS, client_pid=7))
    assert (await only(direct_session.GATE, context({"own_pid": {"pid": 100}}, executor=pooled))).status is Status.BLOCK


MAY = {"owner": "shop", "login": "alice", "may_act": True, "may_create": True, "schema": "public"}


@pytest.mark.parametrize(
    ("row", "kind", "measured"),
    [
        (MAY, "create", "member"),
        (MAY | {"may_create": False}, "create", "no CREATE"),
        (MAY | {"may_create": False}, "drop", "member"),
        (MAY | {"may_act": False}, "drop", "not a member"),
        (MAY | {"owner": "else"}, "create", "else"),
        (None, "create", "no such table"),
    ],
)
async def test_who_may_act_as_the_owner(row: dict[str, Any] | None, kind: str, measured: str) -> None:
    v = await only(privilege.GATE, context({"privilege": row}, plan=replace(PLAN, kind=kind)))
    assert v.measured == measured
    assert v.allows is (measured == "member")


@pytest.mark.parametrize(("version", "option"), [(160000, True), (159999, False)])
async def test_the_grant_has_its_option_from_16_on(version: int, option: bool) -> None:
    facts = replace(FACTS, server_version=version)
    v = await only(privilege.GATE, context({"privilege": MAY | {"may_act": False}}, facts=facts))
    assert ("SET TRUE" in v.evidence) is option


SOCKET = TlsFacts(False, True, "prefer")


@pytest.mark.parametrize(
    ("facts", "control", "sockets", "measured"),
    [
        (TlsFacts(True, False, "verify-full"), None, False, ""),
        (TlsFacts(True, False, "require"), None, True, "sslmode=require"),
        (TlsFacts(False, False, "verify-full"), None, True, "sslmode=verify-full, not encrypted"),
        (SOCKET, None, True, ""),
        (SOCKET, None, False, "unix socket"),
        (TlsFacts(True, False, "verify-full"), TlsFacts(True, False, "verify-full"), False, ""),
        (TlsFacts(True, False, "verify-full"), TlsFacts(True, False, "require"), True, "control sslmode=require"),
        (TlsFacts(True, False, "verify-full"), SOCKET, True, ""),
        (TlsFacts(True, False, "verify-full"), SOCKET, False, "control unix socket"),
    ],
)
async def test_who_has_proven_who_it_is(facts: TlsFacts, control: TlsFacts | None, sockets: bool, measured: str) -> None:
    journal = None if control is None else Book(session=Desk({}, replace(FACTS, tls=control)))
    target = {"allow_unix_socket_changes": sockets}
    ctx = context(facts=replace(FACTS, tls=facts), journal=journal, target_of=target)
    v = await only(tls.GATE, ctx)
    assert v.status is (Status.BLOCK if measured else Status.PASS)
    if measured:
        assert v.measured == measured
    else:
        assert v.measured == ("unix socket" if facts.unix_socket else "sslmode=verify-full")
        assert ("does not leave" in v.evidence) is facts.unix_socket
        assert v.setting == f"targets.t.{'allow_unix_socket_changes' if facts.unix_socket else 'sslmode'}"


async def test_the_executors_session_is_judged_as_well() -> None:
    door = Desk({}, replace(FACTS, tls=TlsFacts(True, False, "require")))
    assert not (await only(tls.GATE, context(journal=None, executor=door))).allows


async def test_the_clock_takes_the_way_out_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked at 100, answered at 108: what the server says at its 104 is on time."""
    for now, expected in ((109.0, Status.PASS), (109.1, Status.BLOCK), (99.0, Status.PASS), (98.9, Status.BLOCK)):
        ticks = iter((100.0, 108.0))
        monkeypatch.setattr(time, "time", lambda ticks=ticks: next(ticks))
        assert await status(clock.GATE, context({"clock": {"now": datetime.fromtimestamp(now, UTC)}})) is expected
    monkeypatch.undo()
    with pytest.raises(ValueError, match="gave no time"):
        await only(clock.GATE, context({"clock": None}))


def test_which_clock_is_behind() -> None:
    assert "is behind the database" in clock.judge(6, 5)[0].evidence
    assert "is ahead of the database" in clock.judge(-6, 5)[0].evidence
    assert "is behind the database" in clock.judge(0.9, 0.5)[0].evidence
    assert "is ahead of the database" in clock.judge(-0.9, 0.5)[0].evidence


def capped(most: int | None, seconds: int | None = 60) -> Any:
    return SimpleNamespace(starts_stopped=False, reason="", by="", max_starts=most, per_seconds=seconds)


@pytest.mark.parametrize(
    ("used", "policy", "claimed", "state", "allowed"),
    [
        (4, capped(None), False, State.APPROVED, True),
        (5, capped(None), False, State.APPROVED, False),
        (6, capped(None), False, State.APPROVED, False),
        (5, capped(None), True, State.STARTING, True),  # it holds a slot itself
        (5, capped(None), False, State.QUEUED, True),
        (2, capped(3), False, State.APPROVED, True),
        (3, capped(3), False, State.APPROVED, False),  # the administrator's limit is lower
        (3, capped(3, None), False, State.APPROVED, True),
        (3, capped(None, 60), False, State.APPROVED, True),
    ],
)
async def test_slots(used: int, policy: Any, claimed: bool, state: State, allowed: bool) -> None:
    journal = Book(used=used, policies=policy, free_at=NOW)
    settings = {"rate_limiter": {"index_creation": {"max_requests": 5, "time_window_seconds": 3600}}}
    ctx = context(journal=journal, claimed=claimed, change=change(state), settings_of=settings)
    v = await only(rate_limit.GATE, ctx)
    assert v.status is (Status.PASS if allowed else Status.WAIT)
    assert journal.asked[0] == (5, 3600.0)
    holds = claimed or state is State.QUEUED
    assert ("holds its slot" in v.evidence) is holds
    if allowed and not holds:
        assert v.evidence == f"{5 - used} left"
    if allowed and policy.max_starts and policy.per_seconds:
        assert journal.asked[1] == (3, 60.0)
        assert v.setting == rate_limit.SETTING
    if not allowed:
        assert "next is free at 03:00:00" in v.evidence
    unproposed = await only(rate_limit.GATE, context(journal=Book(used=5), settings_of=settings))
    assert (unproposed.status, unproposed.evidence) == (Status.WAIT, "all slots are spent")


async def test_one_other_change_is_one_too_many() -> None:
    first, second = change(State.RUNNING), change(State.RUNNING, id=2)
    assert (await only(one_at_a_time.GATE, context(journal=Book(active=[])))).allows
    assert (await only(one_at_a_time.GATE, context(journal=Book(active=[first]), change=first))).allows
    v = await only(one_at_a_time.GATE, context(journal=Book(active=[first, second]), change=first))
    assert (v.status, v.evidence) == (Status.WAIT, "change 2 is running, requested by alice")
    v = await only(one_at_a_time.GATE, context(journal=Book(active=[first])))
    assert (v.status, v.measured) == (Status.WAIT, "1 other")


@pytest.mark.parametrize(
    ("free_in", "purpose", "expected"),
    [(0.0, Purpose.MONITOR, Status.PASS), (0.5, Purpose.MONITOR, Status.WAIT), (0.5, Purpose.OBSERVER, Status.PASS),
     (0.0, Purpose.OBSERVER, Status.PASS)],
)  # fmt: skip
async def test_a_console_that_has_asked_enough(free_in: float, purpose: Purpose, expected: Status) -> None:
    rate = SimpleNamespace(used=3, most=3, window_s=60.0, free_in=lambda statements: free_in * statements)
    v = await only(query_rate.GATE, context(session=Desk({}, purpose=purpose, rate=rate)))
    assert v.status is expected
    if expected is Status.WAIT:
        assert v.retry_at == NOW + timedelta(seconds=free_in)
    with pytest.raises(ValueError, match="not counted"):
        await only(query_rate.GATE, context(session=Desk({})))
