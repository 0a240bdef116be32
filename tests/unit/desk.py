"""A gate's context without a server: what the server would answer is written down, by the name of the question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from indexpilot_tui.engine.model.change import Approval, Change, Plan, State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.pulse import Pulse, Wait
from indexpilot_tui.engine.observe.replication import Archiver, Replication, Slot, Standby
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Facts, Purpose
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.safeguards.context import PACKAGE, Gate, GateContext
from indexpilot_tui.engine.safeguards.memory import Two
from indexpilot_tui.engine.safeguards.signals import KEY
from indexpilot_tui.engine.safeguards.terms import terms_of
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.engine.journal_room import CLUSTER, make_plan

NOW = datetime(2026, 6, 10, 3, tzinfo=UTC)  # a Wednesday, within the window that is the default
FACTS = Facts(
    server_version=180000, database="shop", database_oid=5, session_user="alice", system_identifier=CLUSTER, timeline=1,
    in_recovery=False, server_pid=100, client_pid=100, tls=TlsFacts(True, False, "verify-full"), host="h", port=5432,
    clock_skew_s=0.0,
)  # fmt: skip
TARGET = validated(Target, {"name": "t", "environment": "development", "dsn": "host=h"})
PLAN = make_plan(terms=terms_of(TARGET, Settings()))
ARCHIVER = Archiver(True, False, 0, NOW, None)
STANDBY = Standby("one", "", "streaming", "async", 0.0, 0.0, 0.0, None, 0.0, 0.1, True)
SLOT = Slot("s", "physical", True, "reserved", 0.0, None, None)


@dataclass
class Desk:
    """Stands in for a session. `answers`: rows by the question's name, or what makes them of its parameters; a question
    that nobody has an answer to fails the test."""

    answers: dict[str, Any]
    facts: Facts = FACTS
    purpose: Purpose = Purpose.MONITOR
    rate: Any = None
    closed: bool = False
    package: str = PACKAGE
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def rows(self, query: Any, params: Any = None) -> Any:
        names = {load(self.package, name, self.facts.server_version): name for name in self.answers if name != "other"}
        name = names.get(query, "other") if isinstance(query, str) else "other"
        self.asked.append((name, params))
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer(params) if callable(answer) else answer

    async def row(self, query: Any, params: Any = None) -> Any:
        return await self.rows(query, params)

    async def close(self) -> None:
        self.closed = True

    async def value(self, query: Any, params: Any = None) -> Any:
        return await self.rows(query, params)


@dataclass
class Book:
    """Stands in for the journal."""

    session: Any = None
    active: list[Any] = field(default_factory=list)
    used: int = 0
    free_at: datetime | None = None
    policies: Any = field(default_factory=lambda: SimpleNamespace(
        starts_stopped=False, reason="", by="", max_starts=None, per_seconds=None))  # fmt: skip
    lifted: Any = None
    single: bool = False
    asked: list[tuple[int, float]] = field(default_factory=list)

    async def rate_status(self, most: int, window_s: float) -> Any:
        self.asked.append((most, window_s))
        return SimpleNamespace(used=self.used, free_at=self.free_at)

    async def changes(self, limit: int, states: Any) -> Any:
        return self.active

    async def policy(self) -> Any:
        return self.policies

    async def bypass(self) -> Any:
        if isinstance(self.lifted, BaseException):
            raise self.lifted
        return self.lifted

    async def alone(self, change_id: int) -> bool:
        return self.single


def change(state: State = State.APPROVED, approvals: tuple[Approval, ...] | None = None, **changed: Any) -> Change:
    plan: Plan = changed.pop("plan", PLAN)
    made = Change(1, state, 1, plan.kind, plan, plan.sha256, "t", "r", None, "alice", NOW, NOW)
    given = (approval(plan=plan),) if approvals is None else approvals
    return replace(made, approvals=given, **changed)


def approval(approver: str = "bob", *, plan: Plan = PLAN, ago: float = 0.0, left: float = 3600.0) -> Approval:
    """Given so many seconds ago, and good for so many more."""
    at, until = NOW - timedelta(seconds=ago), NOW + timedelta(seconds=left)
    return Approval(approver, at, plan.sha256, until, another=approver != "alice")


def context(answers: dict[str, Any] | None = None, *, facts: Facts = FACTS, **changed: Any) -> GateContext:
    """A context with the answers; `guards`: values of production_safeguards, `target`: fields of the target."""
    guards, target = changed.pop("guards", {}), changed.pop("target_of", {})
    more = changed.pop("settings_of", {})
    settings = validated(Settings, {"production_safeguards": guards, **more})
    values: dict[str, Any] = {
        "target": validated(Target, {"name": "t", "environment": "development", "dsn": "host=h"} | target),
        "settings": settings, "session": Desk(answers or {}, facts), "now": NOW, "journal": Book(), "plan": PLAN,
    }  # fmt: skip
    return GateContext(**(values | changed))


async def only(gate: Gate | Callable[[GateContext], Any], ctx: GateContext) -> Verdict:
    """The one verdict of a gate, asked directly."""
    found = await (gate.read if isinstance(gate, Gate) else gate)(ctx)
    assert len(found) == 1, found
    verdict: Verdict = found[0]
    return verdict


async def status(gate: Gate, ctx: GateContext) -> Status:
    return (await only(gate, ctx)).status


def pulse(**changed: Any) -> Pulse:
    quiet = Pulse(
        at=NOW, started=NOW, in_recovery=False, hidden=0, active_backends=1, on_cpu=0, idle_in_transaction=0,
        lock_waiters=0, waits=(), oldest_xact_s=0.0, oldest_xact_pid=None, oldest_xact_query="", oldest_snapshot_s=0.0,
        prepared_xacts=0, oldest_prepared_s=None, builds=1, client_backends=2, max_connections=100, reserved_connections=3,
        commits=0, rollbacks=0, temp_bytes=0, deadlocks=0, wal_position=0.0, checkpoints_timed=0, checkpoints_requested=0,
        began=NOW, ms=0.0, round_ms=0.0,
    )  # fmt: skip
    return replace(quiet, **changed)


def waits(kind: str, sessions: int) -> tuple[Wait, ...]:
    return (Wait(1, kind, "a", sessions),)


def signals(*, replication: Replication | None = None, rates: dict[str, float | None] | None = None, **changed: Any) -> Any:
    known = {"xacts": 0.0, "wal_bytes": 0.0, "checkpoints_requested": 0.0} | (rates or {})
    seen = pulse(**changed)
    kinds = None if seen.waits is None else {w.kind: w.sessions for w in seen.waits}
    return SimpleNamespace(
        pulse=seen, rates=SimpleNamespace(**known), replication=replication or followers(), waits_by_kind=kinds
    )


def followers(
    *standbys: Standby, slots: tuple[Slot, ...] = (), archiver: Archiver | None = ARCHIVER, **more: Any
) -> Replication:
    return Replication(standbys, slots, archiver, None, None, None, **more)


def seen(ctx: GateContext, second: Any, first: Any = None) -> GateContext:
    """The context with readings of the server's signals taken already."""
    two = Two(second if first is None else first, second, 1.0)
    ctx.memory._moments |= {KEY: (ctx.now, two), "newest": (ctx.now, second)}
    return ctx
