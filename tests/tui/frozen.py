"""A deterministic engine in memory, with the facade's methods and a clock that stands still. For rendering only: what the
engine really does is tested against real servers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from indexpilot_tui.engine.journal.records import Bypass
from indexpilot_tui.engine.model.change import (
    Approval,
    Change,
    Event,
    State,
)
from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack
from indexpilot_tui.engine.observe.blocking_model import Blocking
from indexpilot_tui.engine.observe.book import Book
from indexpilot_tui.engine.observe.model import IndexDetail, Observation, QueryDetail
from indexpilot_tui.engine.observe.optional.model import Extras
from indexpilot_tui.engine.postgres.session import Facts, SentStatement
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import RefusedError
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.tui.clock import Clock
from tests.tui import sample, sample_signals

NOW = sample.NOW


@dataclass
class FrozenClock:
    """Stands still until it is pushed."""

    now: datetime = NOW
    mono: float = 1000.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, mono=lambda: self.mono)

    def push(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.mono += seconds


def facts(user: str = "alice", tls: bool = True) -> Facts:
    encrypted = TlsFacts(True, False, "verify-full", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
    local = TlsFacts(False, True, "", "", "")
    return Facts(
        server_version=180003,
        database="shop",
        database_oid=16384,
        session_user=user,
        system_identifier="7301234567890123456",
        timeline=1,
        in_recovery=False,
        server_pid=4711,
        client_pid=4711,
        tls=encrypted if tls else local,
        host="orders-db-1",
        port=5432,
        clock_skew_s=0.0,
    )


@dataclass
class FrozenEngine:
    """Changes walk through their states when `step` is called, never by themselves."""

    target: Target = field(default_factory=lambda: Target(name="orders", environment="demo"))
    settings: Settings = field(default_factory=Settings)
    facts: Facts = field(default_factory=facts)
    operate: bool = True
    control_available: bool = True
    next_delay: float = 2.0
    throttle_due: bool = True
    control_reason: str = ""
    can_approve_alone: bool = True
    notices: list[str] = field(default_factory=list)
    observation: Observation = field(default_factory=sample.observation)
    gates_now: list[Verdict] = field(default_factory=sample.gates)
    store: dict[int, Change] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    closed: bool = False
    marked: datetime | None = None
    rehearsed: Rehearsal | None = None
    rehearsal_holds: bool = True
    lifted: Bypass | None = None
    sent: deque[SentStatement] = field(default_factory=lambda: deque(sample.sent(), maxlen=500))

    async def close(self) -> None:
        self.closed = True

    async def observe(self) -> Observation:
        book = sample.FrozenBook(self.observation.hotspots, self.marked)
        return replace(self.observation, book=cast(Book, book))

    def mark(self, at: datetime | None = None) -> datetime | None:
        self.marked = at or NOW
        return self.marked

    def look_at_databases(self) -> None:
        self.calls.append("databases")

    async def query_detail(self, queryid: int) -> QueryDetail:
        return sample.detail(queryid, self.observation)

    async def index_detail(self, oid: int, *, count: bool = False) -> IndexDetail:
        self.calls.append(f"index_detail {oid} {count}")
        return sample.index_detail(oid, count)

    async def candidates(self, queryid: int) -> list[str]:
        self.calls.append(f"candidates {queryid}")
        return list(sample.CANDIDATES)

    async def simulate(self, ddl: str, statements: Sequence[Statement] | None = None) -> Forecast:
        self.calls.append(f"simulate {ddl}")
        return sample.forecast(ddl)

    async def gates(self, ddl_or_change: str | Change) -> list[Verdict]:
        approved = isinstance(ddl_or_change, Change) and bool(ddl_or_change.approvals)
        return [sample.approval_gate(v, approved) for v in self.gates_now]

    async def bypass(self) -> Bypass | None:
        return self.lifted

    async def plans(self, queryid: int) -> tuple[tuple[tuple[str, dict[str, Any]], ...], str]:
        self.calls.append(f"plans {queryid}")
        return sample.plans()

    async def blocking(self) -> Blocking:
        self.calls.append("blocking")
        return sample.blocking()

    async def extras(self, queryid: int | None) -> Extras:
        return sample_signals.extras(queryid)

    async def gauges(self) -> tuple[Gauge, ...]:
        self.calls.append("gauges")
        return sample_signals.gauges()

    async def throttle(self) -> list[Verdict]:
        return [v for v in self.gates_now if v.guard not in ("approval", "privilege")]

    def _put(self, change: Change) -> Change:
        self.store[change.id] = change
        return change

    def step(self, change_id: int, state: State, **fields: object) -> Change:
        change = self.store[change_id]
        number = len(change.events) + 1
        event = Event(number, NOW + timedelta(seconds=number), "alice", f"state.{state.value}", {"from": change.state.value})
        return self._put(replace(change, state=state, events=(*change.events, event), **fields))  # type: ignore[arg-type]

    async def propose(self, ddl: str, reason: str) -> Change:
        self.calls.append(f"propose {ddl} because {reason}")
        return self._put(sample.change(17 + len(self.store), ddl, reason, self.facts.session_user))

    async def approve(self, change_id: int) -> Change:
        self.calls.append(f"approve {change_id}")
        change = self.store[change_id]
        approval = Approval("bob", NOW, change.plan_sha256, NOW + timedelta(hours=24))
        return self.step(change_id, State.APPROVED, approvals=(approval,))

    async def reject(self, change_id: int, reason: str) -> Change:
        return self.step(change_id, State.REJECTED, outcome=reason)

    async def withdraw(self, change_id: int, reason: str) -> Change:
        self.calls.append(f"withdraw {change_id}")
        return self.step(change_id, State.WITHDRAWN, outcome=f"withdrawn: {reason}")

    async def apply(self, change_id: int) -> Change:
        self.calls.append(f"apply {change_id}")
        if self.store[change_id].state is not State.APPROVED:
            raise RefusedError("the change is not approved")
        self.observation = replace(self.observation, builds=(sample.progress(),))
        return self.step(change_id, State.RUNNING, index_oid=24601)

    async def abort(self, change_id: int, reason: str) -> Change:
        self.calls.append(f"abort {change_id}")
        return self.step(change_id, State.CANCELLING)

    async def rollback(self, change_id: int, reason: str) -> Change:
        self.calls.append(f"rollback {change_id}")
        parent = self.store[change_id]
        child = sample.change(
            change_id + 1, f'DROP INDEX CONCURRENTLY "public"."{parent.plan.index}"', reason, "alice", parent=change_id
        )
        self._put(child)
        return self.step(child.id, State.RUNNING)

    async def way_back(self, change_id: int) -> WayBack:
        self.calls.append(f"way back {change_id}")
        return sample.way_back(self.store[change_id], self.rehearsed)

    async def rehearse(self, change_id: int) -> Rehearsal:
        self.calls.append(f"rehearse {change_id}")
        self.rehearsed = sample.rehearsal(self.store[change_id], self.rehearsal_holds)
        return self.rehearsed

    async def keep(self, change_id: int) -> Change:
        self.calls.append(f"keep {change_id}")
        return self.step(change_id, State.DONE, outcome="kept by alice")

    async def change(self, change_id: int) -> Change:
        return self.store[change_id]

    async def changes(self, limit: int = 50) -> list[Change]:
        return sorted(self.store.values(), key=lambda c: -c.id)[:limit]

    def built(self, change_id: int) -> Change:
        """The server says done, the catalog proves it, the window is open."""
        self.observation = replace(self.observation, builds=())
        return self.step(
            change_id, State.OBSERVING, index_valid=True, observe_until=NOW + timedelta(seconds=240),
            verification=sample.verification(),
        )  # fmt: skip
