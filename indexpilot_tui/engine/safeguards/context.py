"""What a gate may look at, and what a gate is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.settings.model import Settings, Target

PACKAGE = "indexpilot_tui.engine.safeguards"
BYPASS_SCOPES = frozenset({"window", "rate", "load"})  # what an emergency may lift; nothing else, ever


class PlanView(Protocol):
    """What the gates need of a plan (the changes room owns the type)."""

    @property
    def kind(self) -> str: ...
    @property
    def ddl(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def table_oid(self) -> int: ...
    @property
    def index(self) -> str: ...
    @property
    def index_oid(self) -> int | None: ...
    @property
    def owner(self) -> str: ...
    @property
    def system_identifier(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def terms(self) -> dict[str, Any]: ...


class ApprovalView(Protocol):
    @property
    def approver(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def plan_sha256(self) -> str: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def another(self) -> bool: ...


class ChangeView(Protocol):
    """What the gates need of a change."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> Any: ...
    @property
    def requested_by(self) -> str: ...
    @property
    def plan_sha256(self) -> str: ...
    @property
    def approvals(self) -> Sequence[ApprovalView]: ...
    @property
    def covered(self) -> bool: ...


class RateView(Protocol):
    @property
    def used(self) -> int: ...
    @property
    def free_at(self) -> datetime | None: ...


class PolicyView(Protocol):
    @property
    def starts_stopped(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def max_starts(self) -> int | None: ...
    @property
    def per_seconds(self) -> int | None: ...


class BypassView(Protocol):
    """An emergency bypass that is in force by the database's clock. `scope` is a subset of BYPASS_SCOPES."""

    @property
    def scope(self) -> frozenset[str]: ...
    @property
    def until(self) -> datetime: ...
    @property
    def by(self) -> str: ...
    @property
    def reason(self) -> str: ...


class JournalView(Protocol):
    """What the gates read from the control schema. `session` is the one that it is read through."""

    @property
    def session(self) -> Session: ...
    async def rate_status(self, max_requests: int, window_s: float, /) -> RateView: ...
    async def changes(self, limit: int, states: Any, /) -> Sequence[ChangeView]: ...
    async def policy(self) -> PolicyView: ...
    async def bypass(self) -> BypassView | None: ...
    async def alone(self, change_id: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class GateContext:
    """One evaluation. `now` is the database's clock. `session` asks the questions; `executor` is the session that would
    send the DDL, where there is one already. Without `plan` only the target-wide gates are asked. `change` is the
    change as the journal has it (None: not proposed yet), `parent` the change that a rollback takes back.
    `claimed`: our own claim already holds the slot of the rate limit and of "one at a time". `estimate` asks what the plan
    would take (None, with a plan: nobody can tell, and gates that need it say `unknown`); `memory` is the asker's.
    """

    target: Target
    settings: Settings
    session: Session
    now: datetime
    journal: JournalView | None = None
    plan: PlanView | None = None
    change: ChangeView | None = None
    parent: ChangeView | None = None
    executor: Session | None = None
    rollback: bool = False
    claimed: bool = False
    previous: tuple[Verdict, ...] = ()
    estimate: Callable[[], Awaitable[BuildEstimate]] | None = None
    memory: Memory = field(default_factory=Memory)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every session whose nature a gate judges: the one that asks and the one that would act."""
        return (self.session,) if self.executor is None else (self.executor, self.session)

    @property
    def own_pids(self) -> list[int]:
        return [s.facts.server_pid for s in self.sessions]

    @property
    def the_plan(self) -> PlanView:
        """The plan, for gates that are only asked with one."""
        if self.plan is None:
            raise ValueError("this gate needs a plan")
        return self.plan

    async def the_estimate(self) -> BuildEstimate:
        """What the plan would take. Raises ValueError when nobody can tell, or what the asking raised."""
        if self.estimate is None:
            raise ValueError("there is no estimate of what this change takes")
        return await self.estimate()

    def sql(self, name: str) -> str:
        return load(PACKAGE, name, self.session.facts.server_version)


Reader = Callable[[GateContext], Awaitable[list[Verdict]]]


@dataclass(frozen=True, slots=True)
class Gate:
    """One safeguard. `target_wide`: can be asked without a plan. `holds_rollback`: False where a way back is not held up.
    `lifted_by`: the scope of an emergency bypass that lifts it (of BYPASS_SCOPES); empty: nothing does. `prime` is asked
    before all gates, and takes a first reading that `read` compares with. `parts`: what it judges each for itself; nothing
    may be said under another name (`guards`)."""

    name: str
    setting: str
    read: Reader
    target_wide: bool = False
    holds_rollback: bool = True
    lifted_by: str = ""
    prime: Callable[[GateContext], Awaitable[None]] | None = None
    parts: tuple[str, ...] = ()

    @property
    def guards(self) -> tuple[str, ...]:
        """Every name that a verdict of it may have: its own, and one for each part."""
        return (self.name, *(f"{self.name}.{part}" for part in self.parts))

    def __post_init__(self) -> None:
        if self.lifted_by and self.lifted_by not in BYPASS_SCOPES:
            raise ValueError(f"{self.name}: no bypass lifts {self.lifted_by!r}")


def answer(
    guard: str,
    status: Status,
    evidence: str,
    *,
    measured: str = "",
    limit: str = "",
    setting: str = "",
    retry_at: datetime | None = None,
) -> list[Verdict]:
    """One verdict, as the list that a gate returns."""
    return [Verdict(guard, status, measured, limit, setting, evidence, None, retry_at)]


def number(row: dict[str, Any] | None, key: str) -> float:
    """A figure that must be there. Raises ValueError for a missing row or NULL: not measured is not zero."""
    if row is None or row.get(key) is None:
        raise ValueError(f"the server gave no value for {key}")
    return float(row[key])


def flag(row: dict[str, Any] | None, key: str) -> bool:
    """A truth value that must be there. Raises ValueError for a missing row or NULL."""
    if row is None or not isinstance(row.get(key), bool):
        raise ValueError(f"the server gave no value for {key}")
    return bool(row[key])


async def must_see_everybody(ctx: GateContext) -> None:
    """Raise ValueError when this login cannot see the sessions of others: what is hidden would count as absent."""
    if not flag(await ctx.session.row(ctx.sql("sees_everybody")), "sees"):
        user = ctx.session.facts.session_user
        raise ValueError(f"the sessions of others are hidden from {user}: GRANT pg_monitor TO {user}")
