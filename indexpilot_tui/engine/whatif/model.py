"""The frozen results of a simulation. Costs are planner cost units; sizes bytes; times seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.whatif.drop_model import DropForecast


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a workload. `sql` is the text to plan (raw); `calls` its weight; `total_ms` measured time or None."""

    key: str  # queryid as text, or the ordinal of a file
    sql: str
    calls: float
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    key: str
    query: str  # cleaned, one line
    reason: str


@dataclass(frozen=True, slots=True)
class PricePoint:
    """A normalised statement planned with constants in place of its parameters; `label` says which (cleaned), `kind` of
    what sort: common, rare, median, outside, observed or predicate. `uses_index`: before the change or after it."""

    label: str
    cost_before: float
    cost_after: float
    uses_index: bool
    kind: str = ""


@dataclass(frozen=True, slots=True)
class QueryForecast:
    """`plan_before` / `plan_after` are EXPLAIN (FORMAT JSON) plan trees (the value of "Plan"). For a statement with
    parameters they are the generic plan's; `points` has what other constants would cost."""

    queryid: str
    query: str  # cleaned, one line
    calls: float
    cost_before: float
    cost_after: float
    uses_index: bool
    plan_before: dict[str, Any]
    plan_after: dict[str, Any]
    points: tuple[PricePoint, ...] = ()

    @property
    def range_before(self) -> tuple[float, float]:
        """The least and the most that it costs at the points and in the generic plan."""
        costs = [self.cost_before, *(p.cost_before for p in self.points)]
        return min(costs), max(costs)

    @property
    def range_after(self) -> tuple[float, float]:
        costs = [self.cost_after, *(p.cost_after for p in self.points)]
        return min(costs), max(costs)


@dataclass(frozen=True, slots=True)
class IndexForecast:
    size_bytes: int
    build_seconds: tuple[float, float]
    wal_bytes: int
    temp_bytes: int
    basis: str = ""  # what time, WAL and temporary files rest on


@dataclass(frozen=True, slots=True)
class WriteForecast:
    """`hot_lost_pct`: share (0..100) of the updates that are HOT today and would no longer be; None: not measured."""

    hot_lost_pct: float | None
    extra_wal_bytes_per_write: float | None


@dataclass(frozen=True, slots=True)
class Confidence:
    level: str  # high | medium | low
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """The result of a simulation of one change; `to_json` has the shape that the command line documents."""

    kind: str  # create | drop | reindex
    ddl: str
    name: str
    table: str
    backend: str  # shadow | hypopg
    server_version: int
    planner_version: int  # server_version_num of the planner that answered
    queries: tuple[QueryForecast, ...]
    left_out: tuple[LeftOut, ...]
    cost_before: float
    cost_after: float
    index: IndexForecast
    writes: WriteForecast
    redundant: tuple[str, ...]
    confidence: Confidence
    read_ms: float = 0.0  # what the read cost on the target
    read_statements: int = 0
    elapsed_ms: float = 0.0
    notes: tuple[str, ...] = field(default=())
    covered_by: tuple[str, ...] = ()  # existing indexes that make the new one superfluous
    drop: DropForecast | None = None  # of a drop alone: what hangs on the index
    confinement: str = ""  # of the shadow's server: `landlock ABI n`, or `none: ` and the reason; empty without a server

    def to_json(self) -> dict[str, Any]:
        return {
            "change": {"kind": self.kind, "ddl": self.ddl, "name": self.name, "table": self.table},
            "backend": self.backend,
            "server_version": self.server_version,
            "planner_version": self.planner_version,
            "confinement": self.confinement or None,
            "queries": [
                {
                    "queryid": q.queryid,
                    "query": q.query,
                    "calls": q.calls,
                    "cost_before": q.cost_before,
                    "cost_after": q.cost_after,
                    "uses_index": q.uses_index,
                    "plan_before": q.plan_before,
                    "plan_after": q.plan_after,
                    "cost_before_range": list(q.range_before),
                    "cost_after_range": list(q.range_after),
                    "points": [
                        {
                            "kind": p.kind,
                            "constants": p.label,
                            "cost_before": p.cost_before,
                            "cost_after": p.cost_after,
                            "uses_index": p.uses_index,
                        }
                        for p in q.points
                    ],
                }
                for q in self.queries
            ],
            "left_out": [{"queryid": x.key, "query": x.query, "reason": x.reason} for x in self.left_out],
            "workload": {
                "cost_before": self.cost_before,
                "cost_after": self.cost_after,
                "cost_before_range": [sum(q.range_before[end] * q.calls for q in self.queries) for end in (0, 1)],
                "cost_after_range": [sum(q.range_after[end] * q.calls for q in self.queries) for end in (0, 1)],
            },
            "index": {
                "size_bytes": self.index.size_bytes,
                "build_seconds": list(self.index.build_seconds),
                "wal_bytes": self.index.wal_bytes,
                "temp_bytes": self.index.temp_bytes,
                "basis": self.index.basis,
            },
            "writes": {
                "hot_lost_pct": self.writes.hot_lost_pct,
                "extra_wal_bytes_per_write": self.writes.extra_wal_bytes_per_write,
            },
            "redundant": list(self.redundant),
            "covered_by": list(self.covered_by),
            "confidence": {"level": self.confidence.level, "reasons": list(self.confidence.reasons)},
            "read": {"statements": self.read_statements, "ms": round(self.read_ms, 1)},
            "elapsed_ms": round(self.elapsed_ms, 1),
            "notes": list(self.notes),
            **({"drop": self.drop.to_json()} if self.drop is not None else {}),
        }
