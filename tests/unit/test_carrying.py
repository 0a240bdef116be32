"""What the steps of carrying a change out share: the eye that is opened again, the index that is seen, what the gates get."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import work as shared
from indexpilot_tui.engine.model.change import State, Step
from indexpilot_tui.errors import ConnectError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.unit.bench_of_changes import DROP, REBUILD, Noted, work
from tests.unit.desk import NOW, PLAN, Desk, change

PARENT = change(State.DONE, id=5)
PARTED = replace(
    PLAN,
    steps=(
        Step("root", "x", "public", "orders", 16384, "orders_customer_idx"),
        Step("leaf", "CREATE INDEX CONCURRENTLY i_1 ON public.p1 USING btree (customer_id)", "public", "p1", 16401, "i_1"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(("attempts", "more"), [(0, True), (4, True), (5, False), (6, False)])
def test_it_is_tried_as_often_as_the_settings_say(attempts: int, more: bool) -> None:
    assert work(guards={"observer": {"max_attempts": 5}}, attempts=attempts).more_attempts is more


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A server that comes back at a time; the clock goes on while it is waited for."""
    said = SimpleNamespace(clock=0.0, back=0.0, tries=[])

    async def connect(target: Any, purpose: Any, settings: Any, *, application_name: str) -> Any:
        said.tries.append((said.clock, application_name))
        if said.clock < said.back:
            raise ConnectError("away")
        return Desk({})

    async def sleep(seconds: float) -> None:
        said.clock += seconds

    monkeypatch.setattr(shared, "connect", connect)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: said.clock)
    return said


async def test_the_eye_is_opened_again_when_it_was_lost(away: SimpleNamespace) -> None:
    open_one, lost = Desk({}), Desk({}, closed=True)
    assert (await work(observer=open_one).eye(), away.tries) == (open_one, [])
    away.back = 10.0
    made = work(observer=lost)
    eye = await made.eye()
    assert (eye.closed, made.observer is eye, away.clock) == (False, True, 10.0)
    assert {name for _, name in away.tries} == {"ixp-eye:1"}


async def test_a_server_that_stays_away_is_not_waited_for_without_end(away: SimpleNamespace) -> None:
    away.back = 120.0
    await work(observer=Desk({}, closed=True)).eye()  # at two minutes it is tried once more
    away.clock, away.back = 0.0, 1000.0
    with pytest.raises(ConnectError):
        await work(observer=Desk({}, closed=True)).eye()
    assert away.clock == 122.0


async def test_the_index_that_the_progress_view_shows_is_written_down_once() -> None:
    made = work()
    for oid in (8, 8, 9):
        made.index_seen(oid)
    assert (made.hold.indexes, made.hold.told) == ([(8, False), (9, False)], [])
    part = work(part=2)
    part.hold = Parts()
    for oid in (8, 8, 9):
        part.index_seen(oid)
    assert (part.hold.parts, part.hold.indexes) == ([(2, 8), (2, 9)], [])


@pytest.mark.parametrize("changed", [{"of": change(State.RUNNING, plan=REBUILD)}, {"of": change(plan=DROP), "repair": True}])
async def test_of_a_rebuild_the_copy_is_written_down_and_never_the_old_index(changed: dict[str, Any]) -> None:
    made = work(**changed)
    for oid in (7, 9, 7, 9):  # the old one is shown while its copy is made, and while it is marked dead
        made.index_seen(oid)
    assert (made.copy_oid, made.hold.told, made.hold.indexes) == (9, [(None, "copy", {"oid": 9})], [])


class Parts(Noted):
    """With the rows of a partitioned table's parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[int, int]] = []

    def later_part(self, position: int, oid: int) -> None:
        self.parts.append((position, oid))


@pytest.mark.parametrize(
    ("changed", "off", "why"),
    [
        ({}, False, ""), ({}, True, "switched off (verification.plans)"), ({"parent": PARENT}, False, "a rollback is not judged"),
        ({"of": change(plan=REBUILD)}, False, "a rebuild changes no plan"), ({"repair": True}, False, "a rebuild changes no plan"),
        ({"of": change(plan=REBUILD), "parent": PARENT}, False, "a rebuild changes no plan"), ({"of": change(plan=DROP)}, False, ""),
    ],
)  # fmt: skip
async def test_plans_are_read_only_where_they_can_change(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], off: bool, why: str
) -> None:
    async def read(target: Any, settings: Any, plan: Any, rows: Any) -> dict[str, Any]:
        return {"plans": {"1": rows}, "why": ""}

    monkeypatch.setattr(shared, "read_shapes", read)
    made = work(**changed)
    if off:
        made.settings = validated(Settings, {"verification": {"plans": "off"}})
    assert await made.shapes([]) == {"plans": {} if why else {"1": []}, "why": why}


@pytest.mark.parametrize(("door", "given"), [(None, False), (False, True), (True, False)])
async def test_the_gates_get_what_is_so_now(monkeypatch: pytest.MonkeyPatch, door: bool | None, given: bool) -> None:
    newer = change(State.STARTING, plan=PARTED, verdicts=("said before",))

    class Journal(Noted):
        async def change(self, change_id: int) -> Any:
            assert change_id == 1
            return newer

        async def journal(self) -> Any:
            return self

    async def now(session: Any) -> Any:
        return NOW

    monkeypatch.setattr(shared, "database_now", now)
    session = SimpleNamespace(closed=door)
    made = work(change(State.APPROVED, plan=PARTED), observer=Desk({}), parent=PARENT,
                door=None if door is None else SimpleNamespace(session=session))  # fmt: skip
    made.hold = Journal()
    whole = await made.gate_context(claimed=False)
    assert (whole.plan, whole.change, whole.previous, whole.claimed) == (PARTED, newer, newer.verdicts, False)
    assert (whole.rollback, whole.parent, whole.memory is made.memory) == (True, PARENT, True)
    assert (whole.executor is session) is given
    assert given or whole.executor is None
    made.parent = None
    step: Any = await made.gate_context(claimed=True, position=1)
    assert (step.plan.table, step.plan.table_oid, step.plan.sha256) == ("p1", 16401, PARTED.sha256)
    assert (step.claimed, step.rollback, step.plan.builds) == (True, False, True)


async def test_the_executors_session_is_closed_once() -> None:
    closed: list[int] = []

    async def close() -> None:
        closed.append(1)

    made = work(door=SimpleNamespace(close=close))
    await made.close_door()
    await made.close_door()
    assert (closed, made.door) == ([1], None)
