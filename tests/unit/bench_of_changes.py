"""A change in the hands of a process, without a server: what it does to the journal is noted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from indexpilot_tui.engine.changes.catalog import Backend, IndexFacts
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.unit.desk import NOW, PLAN, change

DROP = replace(
    PLAN, kind="drop", index_oid=7, ddl='DROP INDEX CONCURRENTLY public."orders_customer_idx"', saved={"valid": True}
)
REBUILD = replace(DROP, kind="reindex", ddl='REINDEX INDEX CONCURRENTLY public."orders_customer_idx"')
BACKEND = Backend(55, NOW)


@dataclass
class Noted:
    """Stands in for the hold. `told`: every row, with the state that it moved to."""

    state: State = State.RUNNING
    epoch: int = 3
    abort: str | None = None
    failures: int = 0
    fenced: bool = False
    lifted: bool = False
    told: list[tuple[State | None, str, dict[str, Any]]] = field(default_factory=list)
    indexes: list[tuple[int | None, bool | None]] = field(default_factory=list)

    async def advance(self, to: State, action: str, detail: dict[str, Any]) -> None:
        self.told.append((to, action, detail))
        self.state = to

    async def note(self, action: str, detail: dict[str, Any]) -> None:
        self.told.append((None, action, detail))

    async def protective(self, action: str, detail: dict[str, Any], to: State | None = None) -> None:
        self.told.append((to, action, detail))

    def later(self, action: str, detail: dict[str, Any]) -> None:
        self.told.append((None, action, detail))

    def later_index(self, oid: int, valid: bool) -> None:
        self.indexes.append((oid, valid))

    def lifts(self, scope: str, now: Any) -> bool:
        return self.lifted

    async def journal(self) -> Noted:
        return self

    async def set_index(self, change_id: int, epoch: int, oid: int | None, valid: bool | None) -> None:
        self.indexes.append((oid, valid))

    @property
    def actions(self) -> list[str]:
        return [action for _, action, _ in self.told]

    @property
    def last(self) -> dict[str, Any]:
        return self.told[-1][2]


def work(of: Change | None = None, *, state: State = State.RUNNING, **changed: Any) -> Any:
    """A Work whose hold is `Noted`."""
    settings = validated(Settings, {"production_safeguards": changed.pop("guards", {})})
    made: Any = Work(None, settings, Noted(state), of or change(State.RUNNING), None)  # type: ignore[arg-type]
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def index(oid: int = 7, *, valid: bool = True, **changed: Any) -> IndexFacts:
    facts = IndexFacts(oid, PLAN.schema, PLAN.index, PLAN.table_oid, valid, valid, True, False, False, False)
    return replace(facts, **changed)
