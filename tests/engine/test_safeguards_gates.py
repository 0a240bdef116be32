"""The gates on a real server: each passes, each refuses, and what cannot be read refuses."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.journal.journal import Claim
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.safeguards import clearance, server_version
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear, clear_own
from indexpilot_tui.engine.safeguards.context import Gate, GateContext
from indexpilot_tui.engine.safeguards.gates import GATES, carry_since, evaluate
from indexpilot_tui.errors import RefusedError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target
from tests.engine.gates_room import approved, context, plan_of, verdict, workshop
from tests.faults.workshop import APPROVER, OWNER, Workshop, quick

__all__ = ["workshop"]


async def test_all_pass_for_an_approved_change_on_a_quiet_server(workshop: Workshop) -> None:
    verdicts = await evaluate(await approved(workshop))
    assert [v for v in verdicts if not v.allows] == []
    assert [g.name for g in GATES][:4] == ["tls", "server_version", "primary", "direct_session"]
    assert all(v.since is not None for v in verdicts)


async def test_without_a_plan_only_the_target_wide_gates_are_asked(workshop: Workshop) -> None:
    guards = {v.guard.split(".")[0] for v in await evaluate(await context(workshop))}
    assert guards == {g.name for g in GATES if g.target_wide} - {"load"} | {"load"}
    assert "privilege" not in guards


def tls_session(workshop: Workshop, tls: TlsFacts) -> Any:
    session = workshop.monitor
    return replace(session, facts=replace(session.facts, tls=tls))


@pytest.mark.parametrize(
    ("tls", "status"),
    [
        (TlsFacts(True, False, "verify-full"), Status.PASS),
        (TlsFacts(True, False, "verify-ca"), Status.BLOCK),
        (TlsFacts(True, False, "require"), Status.BLOCK),
        (TlsFacts(False, False, "prefer"), Status.BLOCK),
        (TlsFacts(False, True, "verify-full"), Status.PASS),  # a unix socket, allowed for this target
    ],
)
async def test_tls(workshop: Workshop, tls: TlsFacts, status: Status) -> None:
    assert (await verdict(await context(workshop, session=tls_session(workshop, tls)), "tls")).status is status


@pytest.mark.family(22, no_oracle="the gate alone, nothing is changed")
async def test_a_unix_socket_must_be_allowed_for_the_target(workshop: Workshop) -> None:
    target = replace(workshop.target, allow_unix_socket_changes=False)
    v = await verdict(await context(workshop, target=target), "tls")
    assert v.status is Status.BLOCK
    assert v.setting == "targets.test.allow_unix_socket_changes"


@pytest.mark.parametrize(
    ("version", "prepared", "refused"),
    [(140003, 0, True), (140004, 0, False), (140000, 0, True), (130001, 5, True), (130001, 0, False), (130002, 5, False),
     (120009, 0, True), (180000, 5, False)],
)  # fmt: skip
def test_versions_with_known_corruption(version: int, prepared: int, refused: bool) -> None:
    assert bool(server_version.refusal(version, prepared)) is refused


async def test_another_cluster_is_refused(workshop: Workshop) -> None:
    plan = replace(await plan_of(workshop), system_identifier="1")
    assert (await verdict(await context(workshop, plan), "primary")).status is Status.BLOCK


async def test_a_pooler_is_refused(workshop: Workshop) -> None:
    session = workshop.monitor
    pooled = replace(session, facts=replace(session.facts, client_pid=session.facts.client_pid + 1))
    assert (await verdict(await context(workshop, session=pooled), "direct_session")).status is Status.BLOCK


async def test_privilege_names_the_grant(workshop: Workshop) -> None:
    plan = await plan_of(workshop)
    session = await connect(socket_target(workshop.cluster, workshop.dbname, APPROVER), Purpose.MONITOR, workshop.settings)
    try:
        v = await verdict(await context(workshop, plan, session=session), "privilege")
    finally:
        await session.close()
    assert v.status is Status.BLOCK
    assert f'GRANT "{OWNER}" TO "{APPROVER}" WITH INHERIT FALSE, SET TRUE' in v.evidence


async def test_privilege_needs_create_on_the_schema_for_a_create(workshop: Workshop) -> None:
    plan = await plan_of(workshop)
    workshop.sql(f"alter schema app owner to indexpilot; grant usage on schema app to {OWNER}")
    v = await verdict(await context(workshop, plan), "privilege")
    assert v.status is Status.BLOCK
    assert 'GRANT CREATE ON SCHEMA "app"' in v.evidence


async def test_approval(workshop: Workshop) -> None:
    good = await approved(workshop)
    assert (await verdict(good, "approval")).allows
    later = replace(good, now=good.now + timedelta(hours=2))
    assert "expired" in (await verdict(later, "approval")).evidence
    other = replace(good, plan=replace(good.plan, ddl=good.plan.ddl + " "))  # type: ignore[type-var, union-attr]
    assert (await verdict(other, "approval")).status is Status.BLOCK
    unproposed = await context(workshop, await plan_of(workshop, "create index on app.t (w)"))
    assert (await verdict(unproposed, "approval")).status is Status.BLOCK


async def test_kill_switch(workshop: Workshop) -> None:
    await workshop.journal.stop_starts("incident 7")
    v = await verdict(await context(workshop), "kill_switch")
    assert v.status is Status.BLOCK
    assert "incident 7" in v.evidence


async def test_rate_limit_says_when_the_next_slot_is_free(workshop: Workshop) -> None:
    settings = replace(
        workshop.settings,
        rate_limiter=validated(Settings, {"rate_limiter": {"index_creation": {"max_requests": 1}}}).rate_limiter,
    )
    ctx = replace(await approved(workshop), settings=settings)
    assert (await verdict(ctx, "rate_limit")).allows
    assert ctx.change is not None
    await workshop.journal.claim(
        ctx.change.id,
        system_identifier=workshop.monitor.facts.system_identifier,
        timeline=1,
        rate_max=1,
        rate_window_s=3600,
        lease_s=5,
    )
    v = await verdict(ctx, "rate_limit")
    assert v.status is Status.WAIT
    assert v.retry_at is not None
    assert (await verdict(replace(ctx, rollback=True), "rate_limit")).allows
    v = await verdict(await context(workshop, settings=settings), "one_at_a_time")
    assert v.status is Status.WAIT
    assert (await verdict(ctx, "one_at_a_time")).allows  # itself does not count


async def test_window_closed_waits_with_the_time_and_does_not_hold_a_rollback(workshop: Workshop) -> None:
    ctx = await context(workshop, settings=Settings(), now=datetime(2026, 6, 10, 12, tzinfo=UTC))
    v = await verdict(ctx, "maintenance_window")
    assert v.status is Status.WAIT
    assert v.retry_at == datetime(2026, 6, 11, 2, tzinfo=UTC)
    assert (await verdict(replace(ctx, rollback=True), "maintenance_window")).allows


async def test_load(workshop: Workshop) -> None:
    settings = validated(
        Settings, {"production_safeguards": {"throttle": {"max_oldest_xact_seconds": 0.2, "max_lock_waiters": 0}}}
    )
    workshop.blocker("select 1")
    time.sleep(0.3)
    ctx = await context(workshop, settings=settings)
    v = await verdict(ctx, "load.oldest_transaction")
    assert v.status is Status.WAIT
    assert v.setting == "production_safeguards.throttle.max_oldest_xact_seconds"
    assert (await verdict(ctx, "load.lock_waiters")).allows
    assert (await verdict(replace(ctx, rollback=True), "load.oldest_transaction")).allows


def strict() -> Settings:
    blockers = {"max_snapshot_age_seconds": 0, "max_writer_age_seconds": 0}
    return replace(
        quick(),
        production_safeguards=validated(
            Settings, {"production_safeguards": {"maintenance_window": {"enabled": False}, "blockers": blockers}}
        ).production_safeguards,
    )


@pytest.mark.parametrize(
    ("kind", "statements", "guard", "held"),
    [
        (
            "create",
            ("set transaction isolation level repeatable read", "select 1 from app.other"),
            "blockers.snapshots",
            True,
        ),
        ("create", ("update app.t set v = 1 where id = 1",), "blockers.lock_holders", True),
        ("create", ("update app.other set id = id",), "blockers.lock_holders", False),
        ("create", ("select 1 from app.t",), "blockers.lock_holders", False),  # an idle reader does not hold up a build
        ("drop", ("select 1 from app.t",), "blockers.lock_holders", True),  # but it does hold up a drop
    ],
)
async def test_blockers(workshop: Workshop, kind: str, statements: tuple[str, ...], guard: str, held: bool) -> None:
    workshop.sql("create index spare on app.t (w)")
    plan = await plan_of(workshop, "create index on app.t (v)" if kind == "create" else "drop index app.spare")
    workshop.blocker(*statements)
    v = await verdict(await context(workshop, plan, settings=strict()), guard)
    assert v.status is (Status.WAIT if held else Status.PASS), v


@dataclass
class Readings:
    """A session that answers one question with what the test gives, reading after reading, and all others itself."""

    session: Any
    question: str
    answers: list[list[dict[str, Any]]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    async def rows(self, query: Any, params: Any = None) -> Any:
        if query == self.question:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await self.session.rows(query, params)


NEW, OLD = {"who": "pid 1", "age_s": None}, {"who": "pid 2", "age_s": 31.0}


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([[NEW], [{**NEW, "age_s": 0.1}]], Status.PASS),  # it had just begun
        ([[NEW], []], Status.PASS),  # it had just ended
        ([[NEW], [{"who": "pid 3", "age_s": None}]], Status.PASS),  # another one each time
        ([[NEW, OLD], [OLD]], Status.WAIT),
        ([[NEW]], Status.UNKNOWN),  # however often it is asked
        ([[OLD, NEW]], Status.UNKNOWN),
    ],
)
async def test_a_transaction_without_an_age_is_asked_for_again(
    workshop: Workshop, answers: list[list[dict[str, Any]]], status: Status
) -> None:
    ctx = await context(workshop)
    session = Readings(workshop.monitor, ctx.sql("snapshots"), answers)
    found = {v.guard: v for v in await evaluate(replace(ctx, session=session)) if v.guard.startswith("blockers")}  # type: ignore[arg-type]
    assert (found.get("blockers.snapshots") or found["blockers"]).status is status


@pytest.mark.parametrize(
    "statement", ["alter table app.t add column x int", "lock table app.t in share update exclusive mode"]
)
async def test_same_table_ddl(workshop: Workshop, statement: str) -> None:
    plan = await plan_of(workshop)
    assert (await verdict(await context(workshop, plan), "same_table_ddl")).allows
    workshop.blocker(statement)
    assert (await verdict(await context(workshop, plan), "same_table_ddl")).status is Status.WAIT


async def test_leftovers(workshop: Workshop) -> None:
    plan = await plan_of(workshop)
    with pytest.raises(Exception, match="could not create unique index"):
        workshop.sql("create unique index concurrently dup on app.t (v)")
    v = await verdict(await context(workshop, plan), "leftovers")
    assert v.status is Status.BLOCK
    assert "app.dup" in v.evidence
    drop = await plan_of(workshop, "drop index app.dup")  # the cure is not refused
    assert (await verdict(await context(workshop, drop), "leftovers")).allows


async def test_what_is_hidden_is_unknown_not_green(workshop: Workshop) -> None:
    workshop.sql("create role w_blind login") if not workshop.sql(
        "select 1 from pg_roles where rolname = 'w_blind'"
    ) else None
    session = await connect(socket_target(workshop.cluster, workshop.dbname, "w_blind"), Purpose.MONITOR, Settings())
    try:
        ctx = await context(workshop, await plan_of(workshop), session=session, settings=Settings(), journal=None)
        found = {v.guard: v for v in await evaluate(ctx)}
    finally:
        await session.close()
    for guard in ("load", "blockers", "same_table_ddl", "leftovers"):
        assert found[guard].status is Status.UNKNOWN
        assert "GRANT pg_monitor TO w_blind" in found[guard].evidence
    for guard in ("kill_switch", "rate_limit", "one_at_a_time"):
        assert found[guard].status is Status.UNKNOWN
        assert "setup-sql" in found[guard].evidence


@pytest.mark.parametrize(
    "error", [TimeoutError(), ValueError("no value"), KeyError("x"), OSError("lost"), RefusedError("no")]
)
async def test_a_gate_that_fails_is_unknown_and_the_rest_is_asked(workshop: Workshop, error: Exception) -> None:
    async def broken(_: GateContext) -> list[Verdict]:
        raise error

    found = await evaluate(await context(workshop), [Gate("broken", "", broken, target_wide=True), *GATES])
    assert found[0].status is Status.UNKNOWN
    assert not found[0].allows
    assert found[1].guard == "tls"


async def test_a_lost_session_makes_every_gate_that_reads_unknown(workshop: Workshop) -> None:
    ctx = await context(workshop, await plan_of(workshop), settings=Settings())
    await workshop.monitor.close()
    statuses = {v.guard: v.status for v in await evaluate(ctx)}
    for guard in (
        "server_version",
        "primary",
        "direct_session",
        "privilege",
        "load",
        "blockers",
        "same_table_ddl",
        "leftovers",
    ):
        assert statuses[guard] is Status.UNKNOWN, guard


def test_since_is_carried_over_while_the_status_stands() -> None:
    t0, t1 = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    old = [Verdict("a", Status.PASS, "", "", "", "", t0), Verdict("b", Status.PASS, "", "", "", "", t0)]
    new = [Verdict("a", Status.PASS, "", "", "", ""), Verdict("b", Status.WAIT, "", "", "", "")]
    assert [v.since for v in carry_since(old, new, t1)] == [t0, t1]


def test_nobody_else_can_make_a_clearance() -> None:
    with pytest.raises(RefusedError, match="safeguards only"):
        Clearance("sha", "1", "db", 1, 1, "change", time.monotonic(), object())


async def test_a_clearance_is_for_one_deed_and_a_moment(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = await approved(workshop)
    assert ctx.change is not None
    assert ctx.plan is not None
    given = await clear(ctx, Claim(ctx.change.id, 3, ctx.plan, 1))  # type: ignore[arg-type]
    assert isinstance(given, Clearance)
    plan = ctx.plan
    right = {"plan_sha256": plan.sha256, "system_identifier": plan.system_identifier, "database": plan.database}
    right |= {"epoch": 3, "deed": "change"}  # type: ignore[dict-item]
    given.check(**right)  # type: ignore[arg-type]
    for wrong in ({"epoch": 4}, {"deed": "clean"}, {"plan_sha256": "x"}, {"system_identifier": "x"}, {"database": "x"}):
        with pytest.raises(RefusedError, match="another"):
            given.check(**(right | wrong))  # type: ignore[arg-type]
    late = given.issued_at + clearance.VALID_SECONDS + 0.1
    monkeypatch.setattr("indexpilot_tui.engine.safeguards.clearance.time.monotonic", lambda: late)
    with pytest.raises(RefusedError, match="old"):
        given.check(**right)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="without all gates"):
        await clear_own(ctx, Claim(ctx.change.id, 3, ctx.plan, 1), "change")  # type: ignore[arg-type]


async def test_no_clearance_past_a_gate_that_refuses(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    await workshop.journal.stop_starts("stop")
    answer = await clear(ctx, Claim(1, 1, ctx.plan, 1))  # type: ignore[arg-type]
    assert isinstance(answer, list)
    assert [v.guard for v in answer if not v.allows] == ["kill_switch"]
