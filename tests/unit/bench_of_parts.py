"""A change on a partitioned table, without a server: a table with two partitions whose catalog follows the steps that are
taken, and a journal that keeps their rows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import group, truth
from indexpilot_tui.engine.changes.catalog import IndexFacts
from indexpilot_tui.engine.changes.guard import Stop
from indexpilot_tui.engine.changes.watch import Ended
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import Plan, State, Step
from indexpilot_tui.engine.safeguards.clearance import Clearance
from tests.unit.bench_of_changes import BACKEND, DROP, Noted, index, work
from tests.unit.desk import FACTS, PLAN, Desk, change

ROOM = "indexpilot_tui.engine.changes"
ROOT, ONE, TWO = PLAN.table_oid, 16401, 16402
TREE: list[dict[str, Any]] = [
    {"oid": ROOT, "parent": None, "schema": "public", "name": "orders"},
    {"oid": ONE, "parent": ROOT, "schema": "public", "name": "p1"},
    {"oid": TWO, "parent": ROOT, "schema": "public", "name": "p2"},
]
STEPS = (
    Step("root", "x", "public", "orders", ROOT, PLAN.index),
    Step("leaf", PLAN.ddl, "public", "p1", ONE, "i_1"),
    Step("leaf", PLAN.ddl, "public", "p2", TWO, "i_2"),
    Step("attach", "x", "public", "p1", ONE, "i_1", to=0),
    Step("attach", "x", "public", "p2", TWO, "i_2", to=0),
)
PARTED = replace(PLAN, steps=STEPS)
PARTED_DROP = replace(DROP, steps=(Step("drop", "x", "public", "orders", ROOT, PLAN.index),))


class Parts(Noted):
    """The journal, with the rows of the steps and the verdicts that were written down."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.rows: dict[int, Part] = {}
        self.gates: list[Any] = []

    async def patient_journal(self) -> Parts:
        return self

    async def parts(self, change_id: int) -> dict[int, Part]:
        return self.rows

    async def set_part(self, position: int, state: str, oid: int | None) -> None:
        self.rows[position] = Part(state, oid)

    async def record_gates(self, change_id: int, verdicts: Any) -> None:
        self.gates.append(verdicts)


@dataclass
class Table:
    """What stands on the table, by the position of the step that made it; its OID is a hundred more."""

    plan: Plan = PARTED
    tree: list[dict[str, Any]] = field(default_factory=lambda: list(TREE))
    made: dict[int, IndexFacts] = field(default_factory=dict)
    others: list[IndexFacts] = field(default_factory=list)  # that stood there before

    def take(self, position: int, *, valid: bool = True, **changed: Any) -> None:
        """A step is done, as the server does it."""
        step = self.plan.steps[position]
        if step.deed == "drop":
            self.made.clear()
        elif step.deed == "attach":
            maker = next(n for n, s in enumerate(self.plan.steps) if s.index == step.index and n < position)
            self.made[maker] = replace(self.made[maker], parent=100 + (step.to or 0))
        else:
            facts = index(100 + position, name=step.index, table_oid=step.table_oid, valid=valid and step.deed == "leaf")
            self.made[position] = replace(facts, partitioned=step.deed != "leaf", **changed)

    @property
    def indexes(self) -> list[IndexFacts]:
        return [*self.made.values(), *self.others]


class Door:
    """The executor's session. `did`: the steps that were sent; `refuses`: what the next one raises."""

    def __init__(self) -> None:
        self.backend, self.notices, self.did = BACKEND, ["a notice"], list[int]()
        self.session = SimpleNamespace(closed=False)
        self.refuses: BaseException | None = None
        self.hold: Any = None

    async def start_step(self, clearance: Any, position: int) -> int:
        if self.refuses is not None:
            raise self.refuses
        self.did.append(position)
        await self.hold.set_part(position, "begun", None)
        return position

    async def close(self) -> None:
        self.session.closed = True


def parted(table: Table, *, state: State = State.RUNNING, taken: tuple[int, ...] = (), **changed: Any) -> Any:
    """Such a change in the hands of a process, of which these steps were taken and written down already."""
    made = work(change(state, plan=table.plan), observer=Desk({"partitions": table.tree}, package=ROOM), **changed)
    made.hold = Parts(state)
    if made.door is not None:
        made.door.hold = made.hold
    for position in taken:
        table.take(position)
        oid = table.made[position].oid if position in table.made else None
        made.hold.rows[position] = Part("done", oid)
    return made


def ended(error: BaseException | None = None, stop: Stop | None = None, *, answered: bool = True) -> Ended:
    return Ended(answered, error, stop, ())


def room_of_parts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A table whose steps succeed, but for those that `answers` has: how each try ends, and whether the server did the step
    ("done"), left an INVALID index ("left") or nothing. `gates`: what refuses a step."""
    said = SimpleNamespace(table=Table(), answers={}, gates={}, watched=[], slept=[], alive=True, facts=FACTS, wakes=[])

    async def watch(work: Any, backend: Any, rules: Any, task: Any, already: Any = None) -> Ended:
        assert backend is BACKEND
        said.watched.append((task, rules.kind, rules.window is not None, already))
        answers = said.answers.get(task, [])
        how, then = answers.pop(0) if answers else (ended(), "done")
        if task is not None and then != "nothing":
            said.table.take(task, valid=then == "done")
        return how

    async def leave(work: Any, position: int) -> Any:
        return said.gates[position] if position in said.gates else object.__new__(Clearance)

    async def alive(eye: Any, backend: Any) -> bool:
        assert backend is BACKEND
        return said.alive  # type: ignore[no-any-return]

    async def by_name(eye: Any, schema: str, name: str) -> Any:
        return next((f for f in said.table.indexes if (f.schema, f.name) == (schema, name)), None)

    async def indexes_of(*_: Any) -> Any:
        return said.table.indexes

    async def text(*_: Any) -> Any:
        return PLAN.ddl, 1

    async def fresh(work: Any) -> Any:
        return SimpleNamespace(facts=said.facts)

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)
        if said.wakes:
            said.wakes.pop(0)()

    monkeypatch.setattr(group, "watch", watch)
    monkeypatch.setattr(group, "leave_for", leave)
    monkeypatch.setattr(group, "backend_alive", alive)
    monkeypatch.setattr(group, "index_by_name", by_name)
    monkeypatch.setattr(group, "fresh_eye", fresh)
    monkeypatch.setattr(truth, "indexes_of", indexes_of)
    monkeypatch.setattr(truth, "index_text", text)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return said


def going(room: SimpleNamespace, *taken: int, abort: str | None = None, **changed: Any) -> Any:
    """A change whose executor is connected, with these steps taken already."""
    room.door = Door()
    room.table.made.clear()
    made = parted(room.table, taken=taken, **({"door": room.door, "attempts": 1, "began": True} | changed))
    made.hold.abort = abort
    return made
