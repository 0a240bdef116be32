"""From a valid index to a change that is done: what proves it, what belongs to it, how it is observed; no server is needed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg import sql

from indexpilot_tui.engine.changes import finish, prove
from indexpilot_tui.engine.changes.rebuild import Rebuilt
from indexpilot_tui.engine.changes.truth import Truth
from indexpilot_tui.engine.changes.watch import Ended
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.journal.journal import StaleEpochError
from indexpilot_tui.engine.model.change import Event, State, Step, Verification
from indexpilot_tui.engine.model.standing import Standing
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.errors import ConnectError, RefusedError, ServerError
from tests.unit.bench_of_changes import BACKEND, DROP, REBUILD, Noted, index, work
from tests.unit.desk import FACTS, NOW, PLAN, change

PARTED = replace(PLAN, steps=(Step("root", "x", "public", "orders", 1, "i"),))


class Books(Noted):
    """With what an observation needs of the journal."""

    terminated = False
    now: Any = None
    away = False

    async def patient_journal(self) -> Any:
        return self

    async def change(self, change_id: int) -> Any:
        if self.away:
            raise ServerError("away")
        return self.now

    async def stats(self, change_id: int) -> Any:
        return {"observed": SimpleNamespace(context={})}

    async def save_verification(self, *_: Any) -> None:
        return None

    def start_beat(self) -> None: ...

    async def stop_beat(self) -> None: ...


def proving(plan: Any = PLAN, **changed: Any) -> Any:
    made = work(change(State.VERIFYING, plan=plan), **changed)
    made.hold = Books(State.VERIFYING)
    return made


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the catalog says, and what is asked of the door."""
    said = SimpleNamespace(
        ours=(index(), ""), by_oid=None, seen=Rebuilt(True, index(8), None, ""), text=("d", 8192), server="", lost=[],
        truth=Truth(made={0: index()}), proof=("", {"size_bytes": 5, "covered": 2}), saved=[], finished=[], clock=0.0, slept=[],
        leave=object.__new__(Clearance), restoring=[], ended=Ended(True, None, None, ()), opened=None, hidden=False,
        verdict="improved", child=9, spawned=[], stands=[], back=None,
        children=[],
    )  # fmt: skip

    def giving(name: str) -> Any:
        async def give(*_: Any, **__: Any) -> Any:
            found = getattr(said, name)
            if isinstance(found, BaseException):
                raise found
            return found

        return give

    async def eye(self: Any) -> Any:
        return SimpleNamespace(facts=FACTS)

    async def save(work: Any, phase: str) -> None:
        said.saved.append(phase)

    async def measured(*_: Any) -> dict[str, Any]:
        return {}

    async def standing(*_: Any) -> dict[str, Any]:
        return {"oid": 8, "relfilenode": 2, "size_bytes": 3}

    async def stands(*_: Any) -> Standing:
        return said.stands.pop(0) if said.stands else Standing("valid", "it is valid", 7)

    async def taken_back(*_: Any) -> bool:
        return bool(said.children and said.children.pop(0))

    async def now(*_: Any) -> Any:
        return NOW

    async def context(self: Any, **_: Any) -> Any:
        return None

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)
        said.clock += seconds

    async def lost(*_: Any) -> list[str]:
        return list(said.lost)

    async def spawn(*args: Any) -> int:
        said.spawned.append(args[-1])
        return 77

    monkeypatch.setattr(Work, "eye", eye)
    monkeypatch.setattr(Work, "gate_context", context)
    monkeypatch.setattr(prove, "fresh_eye", eye)

    async def dropped(eye: Any, oid: int) -> Any:
        assert oid == 7
        return said.by_oid

    monkeypatch.setattr(prove, "index_by_oid", dropped)
    monkeypatch.setattr(prove, "other_server", lambda *_: said.server)
    for name, asked in (("find_ours", "ours"), ("index_text", "text"), ("proof", "proof"),
                        ("clear_own", "leave"), ("watch", "ended")):  # fmt: skip
        monkeypatch.setattr(prove, name, giving(asked))
    monkeypatch.setattr("indexpilot_tui.engine.changes.group.truth_of", giving("truth"))
    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", giving("seen"))
    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.lost_properties", lost)
    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.standing", standing)

    async def kept(*_: Any) -> Any:
        return said.back

    monkeypatch.setattr(prove, "kept_way_back", kept)
    monkeypatch.setattr(prove, "of_build", measured)
    monkeypatch.setattr(prove, "restoring", lambda plan: said.restoring)
    monkeypatch.setattr(prove.Door, "open", giving("opened"))
    for module in (prove, finish):
        monkeypatch.setattr(module, "database_now", now)
    for name, answer in (("stands", stands), ("taken_back", taken_back), ("fresh_eye", eye)):
        monkeypatch.setattr(finish, name, answer)
    monkeypatch.setattr(finish, "save", save)
    monkeypatch.setattr(finish, "hidden", lambda stats: said.hidden)
    monkeypatch.setattr(finish, "judge", lambda *_: Verification(said.verdict, "why", (), 0.0))
    monkeypatch.setattr(finish, "propose_rollback", giving("child"))
    monkeypatch.setattr(finish, "spawn", spawn)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: said.clock)
    return said


@pytest.mark.parametrize(
    ("plan", "seen", "wrong"),
    [
        (PLAN, {}, ""), (PLAN, {"server": "a standby"}, "a standby"), (PLAN, {"ours": (index(), "not as planned")}, "not as planned"),
        (PLAN, {"ours": (None, "")}, "(gone)"), (PLAN, {"ours": (index(valid=False), "")}, "not valid"),
        (PLAN, {"ours": (index(ready=False), "")}, "not ready"), (PLAN, {"ours": (index(live=False), "")}, "not live"),
        (DROP, {}, ""), (DROP, {"by_oid": index()}, "still there"), (REBUILD, {}, ""),
        (REBUILD, {"seen": Rebuilt(False, index(), None, "")}, "was not replaced"),
        (REBUILD, {"seen": Rebuilt(False, index(), None, "gone")}, "gone"), (PARTED, {}, ""),
        (PARTED, {"proof": ("1 of 2 partitions", {})}, "1 of 2"),
    ],
)  # fmt: skip
async def test_what_proves_a_change(room: SimpleNamespace, plan: Any, seen: dict[str, Any], wrong: str) -> None:
    vars(room).update(seen)
    found = await prove._read(proving(plan), SimpleNamespace(facts=FACTS))  # type: ignore[arg-type]
    assert wrong in found.wrong
    assert bool(found.wrong) is bool(wrong)


async def test_a_proven_change_is_observed_and_a_way_back_is_done(
    room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(prove, "save", nothing)
    made = proving()
    await prove.verify(made)
    assert (made.hold.state, made.hold.indexes) == (State.OBSERVING, [(7, True)])
    assert made.hold.last["outcome"] == "the index is valid, 8192 bytes"
    assert made.hold.last["observe_until"] == NOW + timedelta(seconds=300)
    made = proving(DROP)
    await prove.verify(made)
    assert (made.hold.state, made.hold.indexes, made.hold.last["gone"]) == (State.OBSERVING, [(None, None)], True)
    made = proving(PARTED, why=Why("a shock"))
    await prove.verify(made)
    assert made.hold.last["outcome"] == "the index is valid, 5 bytes (although: a shock), on 2 partitions"
    parent = change(State.DONE, plan=replace(DROP, saved={"definition": "what the proposer said does not count"}))
    made = proving(replace(PLAN, saved={"definition": "d"}), parent=parent)
    await prove.verify(made)
    assert (made.hold.state, made.hold.last["outcome"].endswith("; all that was saved is back")) == (State.DONE, True)
    made = proving(parent=change(State.DONE, plan=replace(DROP, saved={"definition": "other"})))
    await prove.verify(made)
    assert "not as before: definition: d" in made.hold.last["outcome"]
    room.text = None
    made = proving(parent=change(State.DONE, plan=DROP))
    await prove.verify(made)
    assert (made.hold.last["size_bytes"], made.hold.last["definition"], made.hold.last["lost"]) == (0, "", [])
    room.server = "another cluster"
    made = proving()
    await prove.verify(made)
    assert (made.hold.state, made.hold.indexes) == (State.NEEDS_OPERATOR, [])


async def test_what_a_rebuild_lost_is_told(room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(prove, "save", nothing)
    for lost, told in ((["comment"], True), ([], False)):
        room.lost = lost
        made = proving(REBUILD, before={"oid": 7, "relfilenode": 1, "size_bytes": 9})
        await prove.verify(made)
        assert made.hold.last["outcome"].startswith("the index was built anew: OID 7 is 8 now")
        assert ("not as before: comment" in made.hold.last["outcome"]) is told
    room.lost = ["x"]
    eye: Any = None
    assert await prove._lost(proving(), eye, index(), None) == []
    assert await prove._lost(proving(parent=change(State.DONE, plan=PLAN)), eye, index(), ("d", 1)) == []


class Door:
    def __init__(self, closed: bool = False) -> None:
        self.backend, self.did, self.session = BACKEND, list[str](), SimpleNamespace(closed=closed)

    async def start_finishing(self, leave: Any, action: str, statement: Any) -> str:
        self.did.append(action)
        return "task"


@pytest.mark.parametrize(
    ("expressions", "parent", "restore", "did"),
    [(False, None, 1, []), (True, None, 1, ["analyze"]), (False, "x", 2, ["restore"] * 2), (True, "x", 0, ["analyze"])],
)
async def test_what_belongs_to_an_index(
    room: SimpleNamespace, expressions: bool, parent: Any, restore: int, did: list[str]
) -> None:
    room.restoring = [sql.SQL("x").format()] * restore
    made = proving(door=Door(), parent=parent)
    await prove._finish_index(made, index(has_expressions=expressions))
    assert made.door.did == did
    assert made.hold.actions == [f"{action}.outcome" for action in did]
    assert all(detail == {"ok": True} for _, _, detail in made.hold.told)


async def test_a_finish_that_may_not_be_sent_is_told_and_undoes_nothing(room: SimpleNamespace) -> None:
    facts = index(has_expressions=True)
    for door, opened, leave, ok in (
        (Door(), None, room.leave, True), (None, Door(), room.leave, True), (Door(closed=True), Door(), room.leave, True),
        (Door(closed=True), None, room.leave, False), (None, None, room.leave, False),
        (Door(), None, [Verdict("g", Status.BLOCK, "", "", "", "no TLS")], False), (None, ConnectError("x"), room.leave, False),
    ):  # fmt: skip
        room.opened, room.leave = opened, leave
        made = proving(door=door)
        await prove._finish_index(made, facts)
        assert made.hold.last["ok"] is ok
        room.leave = object.__new__(Clearance)
    room.ended = Ended(True, None, SimpleNamespace(sentence="gave way"), ())  # type: ignore[arg-type]
    made = proving(door=Door())
    await prove._finish_index(made, facts)
    assert made.hold.last["given_up"] == "gave way"
    room.opened = StaleEpochError("no")
    with pytest.raises(StaleEpochError):
        await prove._finish_index(proving(), facts)


async def test_plans_are_read_at_the_end_of_the_observation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def saving(*args: Any) -> None:
        asked.append(args[-1] is not None)
        if len(asked) > 2:
            raise ServerError("no right")

    monkeypatch.setattr(prove, "save_stats", saving)
    made = proving()
    for phase in ("end", "observed", "observed"):
        await prove.save(made, phase)
    assert (asked, made.hold.actions) == ([False, True, True], ["stats.missing"])


def observing(
    left: float | None = 10.0, *events: str, policy: str = "propose", plans: str = "target", **changed: Any
) -> Any:
    made = proving(**changed)
    until = None if left is None else NOW + timedelta(seconds=left)
    made.hold.now = change(State.OBSERVING, observe_until=until, events=tuple(Event(1, NOW, "a", e, {}) for e in events))
    made.settings = replace(made.settings, verification=replace(made.settings.verification, auto_revert=policy, plans=plans))
    return made


@pytest.mark.parametrize(("left", "events", "slept"), [(5.0, (), [2.0, 2.0, 1.0]), (None, (), []), (-5.0, (), []),
                                                       (5.0, ("kept",), []), (2.01, (), [2.0, 0.05])])  # fmt: skip
async def test_an_observation_ends_with_its_time_or_when_it_is_kept(
    room: SimpleNamespace, left: Any, events: Any, slept: list[float]
) -> None:
    made = observing(left, *events)
    await finish.observe(made)
    assert room.slept == pytest.approx(slept)
    assert (made.hold.state, room.saved) == (State.DONE, ["observed"])


async def test_an_observation_goes_on_without_its_journal_and_ends_with_its_holder(room: SimpleNamespace) -> None:
    made = observing(3.0)
    until = made.hold.now.observe_until
    made.hold.away = True
    await finish._wait_until(made, until)
    assert sum(room.slept) == pytest.approx(3.0)
    made = observing()
    made.hold.terminated = True
    room.slept = []
    await finish.observe(made)
    assert (made.leave, made.hold.state, room.saved, room.slept) == (True, State.VERIFYING, [], [])
    made = observing()
    made.hold.fenced = True
    with pytest.raises(StaleEpochError):
        await finish.observe(made)
    assert (room.saved, room.slept) == ([], [])


DROPPED = Standing("dropped", "the index is gone")


async def test_an_index_that_somebody_changed_is_not_judged(room: SimpleNamespace) -> None:
    """At the end of the window, and before it at the next look at the catalog; unless our own way back did it."""
    room.stands = [DROPPED]
    made = observing(-1.0)
    await finish.observe(made)
    assert (made.hold.state, room.saved) == (State.NEEDS_OPERATOR, [])
    assert [a for a in made.hold.actions if a in ("catalog", "needs_operator", "observed")] == ["catalog", "needs_operator"]

    room.stands, room.slept, room.clock = [DROPPED], [], 0.0
    made = observing(1000.0)
    await finish.observe(made)
    assert (made.hold.state, sum(room.slept)) == (State.NEEDS_OPERATOR, 10.0)

    room.stands, room.children, room.slept = [DROPPED, DROPPED], [True, False], []
    made = observing(-1.0)
    await finish.observe(made)
    assert (made.hold.state, room.slept) == (State.NEEDS_OPERATOR, [2.0])  # it waited for the way back, which failed


async def test_the_end_tells_what_the_catalog_said(room: SimpleNamespace) -> None:
    made = observing(None)
    await finish.observe(made)
    detail = next(d for _, action, d in made.hold.told if action == "observed")
    assert detail["catalog"] == {"code": "valid", "as_planned": True, "sentence": "it is valid", "index_oid": 7}


@pytest.mark.parametrize(
    ("verdict", "policy", "child", "told", "spawned"),
    [
        ("improved", "perform", 9, "improved: why", []), ("regressed", "off", 9, "nothing is taken back", []),
        ("regressed", "propose", 9, "rollback proposed as change 9", []), ("regressed", "perform", 9, "rollback starts as change 9", [9]),
        ("regressed", "perform", RefusedError("gone"), "could not be proposed (gone)", []),
    ],
)  # fmt: skip
async def test_what_a_regression_leads_to(
    room: SimpleNamespace, verdict: str, policy: str, child: Any, told: str, spawned: list[int]
) -> None:
    room.verdict, room.child = verdict, child
    made = observing(None, policy=policy)
    await finish.observe(made)
    outcome = next(d["outcome"] for _, action, d in made.hold.told if action == "observed")
    assert told in outcome
    assert room.spawned == spawned
    assert ("auto_revert" in made.hold.actions) is bool(spawned)


@pytest.mark.parametrize(
    ("plans", "hidden", "shadow"), [("auto", True, True), ("auto", False, False), ("target", True, False)]
)
async def test_the_shadow_plans_what_the_target_does_not_tell(
    room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, plans: str, hidden: bool, shadow: bool
) -> None:
    async def with_shadow(target: Any, settings: Any, plan: Any, stats: Any) -> Any:
        return stats, "planned by the shadow"

    monkeypatch.setattr("indexpilot_tui.engine.changes.shadow_shapes.with_shadow", with_shadow)
    room.hidden = hidden
    made = observing(None, plans=plans)
    await finish.observe(made)
    assert ("plans" in made.hold.actions) is shadow
