"""What the journal hands out, and how its rows become these types. Server text is cleaned here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from indexpilot_tui.engine.model.change import Approval, Change, Event, Plan, QueryVerdict, State, Verification, WriteCost
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean, clean_line


@dataclass(frozen=True, slots=True)
class Claim:
    """A change that is ours to carry out, as long as `epoch` is the newest. `slot`: how many starts the window has now;
    None for a rollback, which takes none."""

    change_id: int
    epoch: int
    plan: Plan
    slot: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """How a change is being carried out now. `lease_ended` is by the database's clock, at the time of reading.

    `system_identifier` is the planned cluster's, `timeline` the one at the claim; `attempts` counts claims.
    """

    change_id: int
    state: State
    epoch: int
    attempts: int
    rollback: bool
    system_identifier: str
    timeline: int | None
    claimed_by: str | None
    claimed_at: datetime | None
    lease_until: datetime | None
    lease_ended: bool
    backend_pid: int | None
    backend_start: datetime | None
    abort_reason: str | None
    abort_by: str | None
    decision: str | None = None  # finish | repair: how a second person settled what needed one


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a change on a partitioned table: begun, done or cleaned; `index_oid` once it was seen."""

    state: str
    index_oid: int | None


@dataclass(frozen=True, slots=True)
class RateStatus:
    """Starts spent in the window, and when the next is free (None: now)."""

    used: int
    free_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The kill switch, and the administrator's rules: a ceiling on starts (None: there is none), who may approve their own
    proposals (`self_approval`: never | ordinary | all), how long a bypass may last (0: there is none), and how many days of
    the log no retention removes."""

    starts_stopped: bool
    reason: str
    by: str
    at: datetime | None
    max_starts: int | None
    per_seconds: int | None
    self_approval: str = "never"
    bypass_max_minutes: int = 60
    keep_log_days: int = 365


@dataclass(frozen=True, slots=True)
class BypassRow:
    """One emergency bypass. `in_force` and `overdue` (no second person within 24 hours) are by the database's clock, at the
    time of reading; `uses` counts claims while it was in force."""

    id: int
    scope: frozenset[str]
    reason: str
    by: str
    at: datetime
    until: datetime
    in_force: bool
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_note: str
    review_until: datetime
    overdue: bool
    ended_by: str | None
    ended_at: datetime | None
    end_reason: str
    uses: int


@dataclass(frozen=True, slots=True)
class Bypass:
    """What is lifted now, by all bypasses in force together. `until`: when the first part of `scope` comes back.
    `reviewed`: each of them has its second person."""

    scope: frozenset[str]  # of window, rate, load
    until: datetime
    by: str
    reason: str
    reviewed: bool
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseStats:
    """pg_stat_statements rows of the statements on the table, at one phase. Times in the rows are milliseconds;
    `stats_reset` is None where the server does not tell (before 14)."""

    phase: str  # proposed | start | end | observed
    taken_at: datetime
    stats_reset: datetime | None
    rows: tuple[dict[str, Any], ...]
    context: dict[str, Any] = field(default_factory=dict)  # counters of the table, fingerprints of plans


def canonical(plan: Plan) -> str:
    """The text whose SHA-256 is `plan.sha256`: it is stored as it is, so that the database can hash it again."""
    return json.dumps(plan.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def dump(value: Any) -> str:
    """JSON text for a detail column: times as ISO 8601, NUMERIC as float. Raises TypeError for anything else unknown."""
    return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} does not go into the journal")


def clean_json(value: Any) -> Any:
    """Every text in a JSON value cleaned, keys too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean_line(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_json(item) for item in value]
    return value


def _when(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _approval(row: Mapping[str, Any]) -> Approval:
    return Approval(
        approver=clean_line(row["approver"]),
        at=datetime.fromisoformat(row["at"]),
        plan_sha256=row["plan_sha256"],
        expires_at=datetime.fromisoformat(row["expires_at"]),
        another=bool(row["another"]),
    )


def _verdict(row: Mapping[str, Any]) -> Verdict:
    return Verdict(
        guard=clean_line(row["guard"]),
        status=Status(row["status"]),
        measured=clean_line(row["measured"]),
        limit=clean_line(row["limit_text"]),
        setting=clean_line(row["setting"]),
        evidence=clean_line(row["evidence"]),
        since=_when(row["since"]),
        retry_at=_when(row["retry_at"]),
    )


def to_event(row: Mapping[str, Any]) -> Event:
    """One log row for showing: cleaned (the stored text stays what it was)."""
    at = row["at"]
    return Event(
        seq=row["seq"],
        at=at if isinstance(at, datetime) else datetime.fromisoformat(at),
        actor=clean_line(row["actor"]),
        action=clean_line(row["action"]),
        detail=clean_json(json.loads(row["detail"])),
    )


def to_verification(text: str | None) -> Verification | None:
    if text is None:
        return None
    data = clean_json(json.loads(text))
    queries = tuple(QueryVerdict(**query) for query in data.pop("queries"))
    writes = data.pop("writes", None)
    return Verification(queries=queries, writes=WriteCost(**writes) if writes else None, **data)


def to_change(row: Mapping[str, Any]) -> Change:
    """One row of the question `changes`."""
    return Change(
        id=row["id"],
        state=State(row["state_now"]),
        epoch=row["epoch"],
        kind=row["kind"],
        plan=Plan.from_json(json.loads(row["plan"])),
        plan_sha256=row["plan_sha256"],
        target=clean_line(row["target"]),
        reason=clean_line(row["reason"]),
        parent_id=row["parent_id"],
        requested_by=clean_line(row["requested_by"]),
        requested_at=row["requested_at"],
        state_since=row["state_since"],
        approvals=tuple(_approval(item) for item in row["approvals"]),
        verdicts=tuple(_verdict(item) for item in row["verdicts"]),
        events=tuple(to_event(item) for item in row["events"]),
        index_oid=row["index_oid"],
        index_valid=row["index_valid"],
        outcome=clean_line(row["outcome"]),
        verification=to_verification(row["verification"]),
        observe_until=row["observe_until"],
        way_back=Plan.from_json(json.loads(row["way_back"])) if row["way_back"] else None,
        covered=row["covered"],
    )


def to_run(row: Mapping[str, Any]) -> Run:
    """One row of the question `run`."""
    return Run(
        change_id=row["id"],
        state=State(row["state"]),
        epoch=row["epoch"],
        attempts=row["attempts"],
        rollback=row["rollback"],
        system_identifier=row["system_identifier"],
        timeline=row["claimed_timeline"],
        claimed_by=clean_line(row["claimed_by"]) if row["claimed_by"] is not None else None,
        claimed_at=row["claimed_at"],
        lease_until=row["lease_until"],
        lease_ended=row["lease_ended"],
        backend_pid=row["backend_pid"],
        backend_start=row["backend_start"],
        abort_reason=clean_line(row["abort_reason"]) if row["abort_reason"] is not None else None,
        abort_by=clean_line(row["abort_by"]) if row["abort_by"] is not None else None,
        decision=row["decision"],
    )


def to_bypass_row(row: Mapping[str, Any]) -> BypassRow:
    """One row of the question `bypasses`."""
    return BypassRow(
        id=row["id"],
        scope=frozenset(row["scope"]),
        reason=clean_line(row["reason"]),
        by=clean_line(row["granted_by"]),
        at=row["granted_at"],
        until=row["until"],
        in_force=row["in_force"],
        reviewed_by=clean_line(row["reviewed_by"]) if row["reviewed_by"] is not None else None,
        reviewed_at=row["reviewed_at"],
        review_note=clean_line(row["review_note"] or ""),
        review_until=row["review_until"],
        overdue=row["overdue"],
        ended_by=clean_line(row["ended_by"]) if row["ended_by"] is not None else None,
        ended_at=row["ended_at"],
        end_reason=clean_line(row["end_reason"] or ""),
        uses=row["uses"],
    )


def to_bypass(rows: Sequence[BypassRow]) -> Bypass | None:
    """The bypasses in force as one: what is lifted by any of them, until the first part is lifted by none."""
    if not rows:
        return None
    scope = frozenset(part for row in rows for part in row.scope)
    return Bypass(
        scope,
        min(max(row.until for row in rows if part in row.scope) for part in scope),
        ", ".join(dict.fromkeys(row.by for row in rows)),
        "; ".join(dict.fromkeys(row.reason for row in rows)),
        all(row.reviewed_at is not None for row in rows),
        tuple(row.id for row in rows),
    )
