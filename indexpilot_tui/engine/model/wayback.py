"""How a change is taken back, before anybody does it: what was saved, what it costs, the steps, the proof, the rehearsal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

HELD, DIFFERS, NOT_REHEARSED = "held", "differs", "not rehearsed"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rollback carried out on the shadow. `held`: afterwards every index was as before; `differs`: not, and
    `differences` say how; `not rehearsed`: the shadow could not do it, and `why` says what it lacks.

    `statements` are what was carried out there, with the milliseconds of each; `at` is None until it is in the log.
    """

    result: str
    why: str
    statements: tuple[tuple[str, float], ...]
    compared: int  # indexes that were compared by definition and properties
    differences: tuple[str, ...]
    server_version: int
    at: datetime | None = None
    by: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "result": self.result,
            "why": self.why,
            "statements": [[text, round(ms, 1)] for text, ms in self.statements],
            "compared": self.compared,
            "differences": list(self.differences),
            "server_version": self.server_version,
            **({"at": self.at.isoformat(), "by": self.by} if self.at else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], at: datetime | None = None, by: str = "") -> Rehearsal:
        return cls(
            data["result"],
            data["why"],
            tuple((str(text), float(ms)) for text, ms in data["statements"]),
            int(data["compared"]),
            tuple(data["differences"]),
            int(data["server_version"]),
            at,
            by,
        )

    @property
    def sentence(self) -> str:
        major = self.server_version // 10000
        if self.result == HELD:
            return f"held: on PostgreSQL {major} all {self.compared} indexes were afterwards as before"
        if self.result == DIFFERS:
            return f"does not hold: {'; '.join(self.differences[:3])}"
        return f"not rehearsed: {self.why}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What building the index again takes, by the forecast's model; `basis` says what the figures rest on."""

    size_bytes: int
    seconds: tuple[float, float] | None
    wal_bytes: int
    temp_bytes: int
    basis: str


@dataclass(frozen=True, slots=True)
class WayBack:
    """The rollback of one change as it would be carried out now. `kind` is its own: drop, create, or none (a rebuild loses
    nothing). `why_not`: what stands against it now, empty when nothing does; the plan is told all the same.

    `statements` in their order; `saved` are label and value of what was kept before the deed; `covered` says whose approval
    it has; `frees_bytes` is what a drop gives back; `proposed` the id of a rollback that is proposed already.
    """

    change_id: int
    kind: str
    why_not: str
    statements: tuple[str, ...]
    saved: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]
    proof: tuple[str, ...]
    covered: str
    cost: Cost | None = None
    frees_bytes: int | None = None
    proposed: int | None = None
    rehearsal: Rehearsal | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "change": self.change_id,
            "kind": self.kind,
            "why_not": self.why_not,
            "statements": list(self.statements),
            "saved": dict(self.saved),
            "steps": list(self.steps),
            "proof": list(self.proof),
            "covered": self.covered,
            "cost": asdict(self.cost) if self.cost is not None else None,
            "frees_bytes": self.frees_bytes,
            "proposed": self.proposed,
            "rehearsal": self.rehearsal.to_json() if self.rehearsal is not None else None,
        }
