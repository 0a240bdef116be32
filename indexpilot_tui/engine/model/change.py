"""A change: one planned index operation, its plan and how others see it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from indexpilot_tui.engine.model.standing import Standing
from indexpilot_tui.engine.model.verdict import Verdict


class State(StrEnum):
    PROPOSED = "proposed"
    APPROVED = "approved"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    UNKNOWN = "unknown"
    VERIFYING = "verifying"
    CLEANING = "cleaning"
    OBSERVING = "observing"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    NEEDS_OPERATOR = "needs_operator"


END_STATES = frozenset({State.DONE, State.FAILED, State.ROLLED_BACK, State.REJECTED, State.EXPIRED, State.WITHDRAWN})
ACTIVE_STATES = frozenset({State.STARTING, State.RUNNING, State.CANCELLING, State.UNKNOWN, State.VERIFYING, State.CLEANING})


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a change on a partitioned table. `deed`: root or branch (the index of a partitioned table itself,
    without storage), leaf (built concurrently on one partition), attach (makes the index of `table` a part of its parent's).

    `to`: of an attach, the position of the step that makes the index to attach to. `index_oid`: of an attach, the index
    that stood there before the change; None: the one that this change makes.
    """

    deed: str
    ddl: str
    schema: str
    table: str
    table_oid: int
    index: str
    to: int | None = None
    index_oid: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What exactly will be done, and to what. Its hash is what an approval binds.

    `ddl` is the full text that the executor sends (CONCURRENTLY, schema-qualified quoted names, no IF [NOT] EXISTS); on a
    partitioned table it says what is wanted, and the texts that are sent are those of `steps`.
    """

    kind: str  # create | drop | reindex
    ddl: str
    schema: str
    table: str
    table_oid: int
    index: str  # raw index name
    index_oid: int | None  # of the index to drop or to rebuild; None for a create
    method: str
    unique: bool
    owner: str  # owner role of the table
    system_identifier: str
    database: str
    saved: dict[str, Any] = field(default_factory=dict)  # what it takes to go back (definition, comment, options ...)
    steps: tuple[Step, ...] = ()  # of a partitioned table, in the order of the work
    terms: dict[str, Any] = field(default_factory=dict)  # environment and safeguards' settings when it was proposed

    def to_json(self) -> dict[str, Any]:
        """What is hashed. Plans without terms (ways back, and those of before there were any) keep their hash."""
        data = asdict(self)
        if not self.terms:
            del data["terms"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return cls(**{**data, "steps": tuple(Step(**step) for step in data.get("steps", ()))})

    @property
    def builds(self) -> bool:
        """Whether it reads a table and writes an index, which takes time and room."""
        return self.kind != "drop"

    @property
    def sha256(self) -> str:
        """Of the canonical JSON text: sorted keys, no white space, UTF-8."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Approval:
    approver: str
    at: datetime
    plan_sha256: str
    expires_at: datetime
    another: bool = True  # by the control schema: certainly another person than who proposed the plan


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the mutation log."""

    seq: int
    at: datetime
    actor: str
    action: str  # e.g. ddl.intent, ddl.outcome, verified ...
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueryVerdict:
    queryid: str
    query: str
    calls_before: int
    calls_after: int
    mean_before_ms: float
    mean_after_ms: float
    verdict: str  # improved | no evidence | regressed
    reason: str
    plan: str = "not compared"  # changed | unchanged | not compared
    wal_before: float | None = None  # bytes of WAL a call; None: not recorded
    wal_after: float | None = None


@dataclass(frozen=True, slots=True)
class WriteCost:
    """What writing to the table costs, before and after, over all statements that write: mean time, WAL a call, and the
    share (0..100) of its updates that needed no entry in any index (HOT). None: not measured, or too few calls."""

    calls_before: int
    calls_after: int
    mean_before_ms: float | None
    mean_after_ms: float | None
    wal_before: float | None
    wal_after: float | None
    hot_before_pct: float | None
    hot_after_pct: float | None


@dataclass(frozen=True, slots=True)
class Verification:
    verdict: str  # improved | no evidence | regressed
    reason: str
    queries: tuple[QueryVerdict, ...]
    window_s: float
    writes: WriteCost | None = None  # None: nothing wrote to the table


@dataclass(frozen=True, slots=True)
class Change:
    """One change as the control schema has it now."""

    id: int
    state: State
    epoch: int
    kind: str
    plan: Plan
    plan_sha256: str
    target: str
    reason: str
    parent_id: int | None
    requested_by: str
    requested_at: datetime
    state_since: datetime
    approvals: tuple[Approval, ...] = ()
    verdicts: tuple[Verdict, ...] = ()  # of the last evaluation of the gates
    events: tuple[Event, ...] = ()
    index_oid: int | None = None
    index_valid: bool | None = None
    outcome: str = ""  # one sentence
    verification: Verification | None = None
    observe_until: datetime | None = None
    way_back: Plan | None = None  # as the executor kept it when the change was carried out
    covered: bool = False  # a rollback that is what was kept, byte by byte: its parent's approval covers it
    standing: Standing | None = None  # the catalog at the time of asking; None: not asked

    @property
    def back(self) -> str:
        """What takes it back, as an approver is shown it: the statement that was kept, or as far as it is known before."""
        if self.way_back is not None:
            return self.way_back.ddl
        if self.kind == "drop":
            return str(self.plan.saved.get("definition") or "none: there was no working index")
        if self.kind == "create":
            return f"DROP INDEX CONCURRENTLY of {self.plan.schema}.{self.plan.index}"
        return "none is needed: the same index is made anew"

    @property
    def ended(self) -> bool:
        return self.state in END_STATES

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": self.state.value,
            "kind": self.kind,
            "ddl": self.plan.ddl,
            "steps": [step.ddl for step in self.plan.steps],
            "plan_sha256": self.plan_sha256,
            "target": self.target,
            "reason": self.reason,
            "parent_id": self.parent_id,
            "requested_by": self.requested_by,
            "requested_at": self.requested_at.isoformat(),
            "state_since": self.state_since.isoformat(),
            "epoch": self.epoch,
            "environment": self.plan.terms.get("environment"),
            "safeguards_sha256": self.plan.terms.get("sha256"),
            "way_back": {"ddl": self.back, "kept": self.way_back is not None},
            "covered": self.covered,
            "approvals": [_plain(asdict(a)) for a in self.approvals],
            "verdicts": [_plain(asdict(v)) for v in self.verdicts],
            "events": [_plain(asdict(e)) for e in self.events],
            "index": {"name": self.plan.index, "oid": self.index_oid, "valid": self.index_valid},
            "catalog": self.standing.to_json() if self.standing else None,
            "outcome": self.outcome,
            "verification": _plain(asdict(self.verification)) if self.verification else None,
            "observe_until": self.observe_until.isoformat() if self.observe_until else None,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
