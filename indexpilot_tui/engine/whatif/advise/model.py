"""What an advice says. Costs are planner cost units, of the workload weighted by calls where nothing else is said; sizes
are bytes. All texts are cleaned, except `ddl`, which is to be executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.whatif.model import LeftOut


@dataclass(frozen=True, slots=True)
class AdvisedIndex:
    """One CREATE INDEX, in the order in which they pay. `gain` is what this one adds to those before it, `gain_alone` what
    it would bring without the others, `loss_without` what the whole set would lose without it (cost units).
    `upkeep` is what the workload's writes cost more because of it; `replaces` names existing indexes it makes redundant."""

    ddl: str
    table: str
    size_bytes: int
    cost_after_cumulative: float
    gain: float
    gain_alone: float
    loss_without: float
    upkeep: float
    serves: tuple[str, ...]
    replaces: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdvisedDrop:
    """One DROP INDEX. `cost_change` is what the workload's statements would cost more without it."""

    ddl: str
    name: str
    size_bytes: int
    reason: str
    cost_change: float


@dataclass(frozen=True, slots=True)
class NoAdvice:
    """A statement that no index of the advice makes cheaper, and why not."""

    queryid: str
    query: str
    cost: float
    reason: str


@dataclass(frozen=True, slots=True)
class QueryEffect:
    """A statement before and after the whole set."""

    queryid: str
    query: str
    calls: float
    cost_before: float
    cost_after: float
    indexes: tuple[int, ...]  # positions in Advice.indexes


@dataclass(frozen=True, slots=True)
class Advice:
    """`stop_after`: how many of the indexes bring nearly all of the gain (the knee); 0 when there is none to make.
    `explained_time_pct`: share of the execution time whose statements could be planned, None without times.
    `upkeep` is the added write cost of the set; `explains` counts plans asked of the shadow."""

    indexes: tuple[AdvisedIndex, ...]
    drops: tuple[AdvisedDrop, ...]
    queries: tuple[QueryEffect, ...]
    no_advice: tuple[NoAdvice, ...]
    unexplained: tuple[LeftOut, ...]
    cost_before: float
    cost_after: float
    upkeep: float
    stop_after: int
    explained_time_pct: float | None
    budget_bytes: int | None
    write_budget_pct: float | None
    candidates: int
    explains: int
    server_version: int
    elapsed_ms: float
    read_ms: float = 0.0
    read_statements: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def size_bytes(self) -> int:
        return sum(i.size_bytes for i in self.indexes)

    def to_json(self) -> dict[str, Any]:
        return {
            "backend": "shadow",
            "server_version": self.server_version,
            "budget_bytes": self.budget_bytes,
            "write_budget_pct": self.write_budget_pct,
            "indexes": [
                {
                    "ddl": i.ddl,
                    "table": i.table,
                    "size_bytes": i.size_bytes,
                    "cost_after_cumulative": i.cost_after_cumulative,
                    "gain": i.gain,
                    "gain_alone": i.gain_alone,
                    "loss_without": i.loss_without,
                    "upkeep": i.upkeep,
                    "serves": list(i.serves),
                    "replaces": list(i.replaces),
                    "notes": list(i.notes),
                }
                for i in self.indexes
            ],
            "drops": [
                {
                    "ddl": d.ddl, "name": d.name, "size_bytes": d.size_bytes, "reason": d.reason,
                    "cost_change": d.cost_change,
                }
                for d in self.drops
            ],
            "stop_after": self.stop_after,
            "workload": {
                "cost_before": self.cost_before, "cost_after": self.cost_after, "upkeep": self.upkeep,
                "size_bytes": self.size_bytes,
            },
            "queries": [
                {
                    "queryid": q.queryid, "query": q.query, "calls": q.calls, "cost_before": q.cost_before,
                    "cost_after": q.cost_after, "indexes": list(q.indexes),
                }
                for q in self.queries
            ],
            "coverage": {
                "explained_time_pct": self.explained_time_pct,
                "unexplained": [{"queryid": x.key, "query": x.query, "reason": x.reason} for x in self.unexplained],
            },
            "no_advice": [
                {"queryid": n.queryid, "query": n.query, "cost": n.cost, "reason": n.reason} for n in self.no_advice
            ],
            "candidates": self.candidates,
            "explains": self.explains,
            "read": {"statements": self.read_statements, "ms": round(self.read_ms, 1)},
            "elapsed_ms": round(self.elapsed_ms, 1),
            "notes": list(self.notes),
        }  # fmt: skip
