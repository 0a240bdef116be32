"""What becomes of a change when its statement has ended: every rule, at its edge; no server is needed for that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import cleaning, settle
from indexpilot_tui.engine.changes.guard import Stop
from indexpilot_tui.engine.changes.rebuild import Rebuilt
from indexpilot_tui.engine.changes.watch import Ended
from indexpilot_tui.engine.changes.work import Why, Work
from indexpilot_tui.engine.model.change import State
from tests.unit.bench_of_changes import BACKEND, DROP, REBUILD, index, work
from tests.unit.desk import FACTS, PLAN, change

STOP = Stop("yield", "1 s", "1 s", "gave way", True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def eye(self: Work) -> Any:
        return SimpleNamespace(facts=FACTS)

    async def fresh(work: Any) -> Any:
        return SimpleNamespace(facts=FACTS)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(Work, "eye", eye)
    monkeypatch.setattr(settle, "fresh_eye", fresh)
    return slept


def catalog(monkeypatch: pytest.MonkeyPatch, *, named: Any = None, by_oid: Any = None, text: Any = PLAN.ddl) -> None:
    """What the catalog has: by the plan's name, by OID, and the definition."""

    async def index_by_name(*_: Any) -> Any:
        return named.pop(0) if isinstance(named, list) else named

    async def index_by_oid(eye: Any, oid: int) -> Any:
        assert oid == 7
        return by_oid

    async def index_text(*_: Any) -> Any:
        return None if text is None else (text, 8192)

    monkeypatch.setattr(settle, "index_by_name", index_by_name)
    monkeypatch.setattr(settle, "index_by_oid", index_by_oid)
    monkeypatch.setattr(settle, "index_text", index_text)


OTHER = PLAN.ddl.replace("customer_id", "other_id")


@pytest.mark.parametrize(
    ("seen", "of", "found", "wrong"),
    [
        ({}, {}, None, ""),
        ({}, {"index_oid": 7}, None, ""),
        ({"named": index(9)}, {"index_oid": 7}, 9, "OID 7 is gone and"),
        ({"named": index(9)}, {"index_oid": 7, "foreign": True}, None, ""),
        ({"named": index()}, {"foreign": True}, None, ""),
        ({"named": index()}, {"began": False}, None, ""),
        ({"by_oid": index()}, {"index_oid": 7, "began": False}, None, ""),
        ({"named": index(table_oid=1)}, {}, 7, "is on another table"),
        ({"named": index(building=True)}, {}, 7, "somebody is building"),
        ({"by_oid": index(valid=False), "text": None}, {"index_oid": 7}, 7, ""),  # its definition may be out of reach
        ({"named": index(valid=False), "text": OTHER}, {}, 7, "is not as planned"),
        ({"by_oid": index(), "text": OTHER}, {"index_oid": 7}, 7, "is not as planned"),
        ({"named": index(), "text": None}, {}, 7, "gone while it was looked at"),
        ({"named": index()}, {}, 7, ""),
        ({"by_oid": index(), "named": index(9)}, {"index_oid": 7}, 7, ""),
    ],
)
async def test_which_index_is_ours(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], of: dict[str, Any], found: int | None, wrong: str
) -> None:
    catalog(monkeypatch, **seen)
    facts, why = await settle.find_ours(work(**({"began": True} | of)), None)  # type: ignore[arg-type]
    assert (facts.oid if facts else None) == found
    assert wrong in why
    assert bool(why) is bool(wrong)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, ""), ({"system_identifier": "8"}, "this is cluster 8"), ({"database": "other"}, "this is database other"),
        ({"in_recovery": True}, "a standby now"), ({"timeline": 2}, "there was a failover"),
    ],
)  # fmt: skip
def test_another_server_says_nothing_about_ours(facts: dict[str, Any], why: str) -> None:
    eye = SimpleNamespace(facts=replace(FACTS, **facts))
    assert why in settle.other_server(work(timeline=1), eye)  # type: ignore[arg-type]
    assert bool(settle.other_server(work(timeline=1), eye)) is bool(why)  # type: ignore[arg-type]
    unclaimed = settle.other_server(work(), SimpleNamespace(facts=replace(FACTS, timeline=2)))  # type: ignore[arg-type]
    assert unclaimed == ""


async def ended_as(monkeypatch: pytest.MonkeyPatch, made: Any, **seen: Any) -> tuple[State, str, dict[str, Any]]:
    """How `_decide` ends it."""
    catalog(monkeypatch, **seen)
    await settle._decide(made)
    state, action, detail = made.hold.told[-1]
    return state, action, detail


async def test_a_build_ends_as_the_catalog_says(monkeypatch: pytest.MonkeyPatch, quick: list[float]) -> None:
    state, action, detail = await ended_as(monkeypatch, work(began=True), named=index())
    assert (state, action, detail["oid"]) == (State.VERIFYING, "verify.intent", 7)
    made = work(began=True)
    state, action, detail = await ended_as(monkeypatch, made, named=index(valid=False))
    assert (state, action, detail["oid"], made.index_oid) == (State.CLEANING, "leftover", 7, 7)
    assert made.hold.indexes == [(7, False)]
    state, action, _ = await ended_as(monkeypatch, work(began=True), named=index(table_oid=1))
    assert (state, action) == (State.NEEDS_OPERATOR, "needs_operator")
    state, _, detail = await ended_as(monkeypatch, work(began=True, why=Why("it ended")))
    assert (state, detail["outcome"]) == (State.FAILED, "it ended; nothing is left of it")
    assert quick == []
    still = [index(building=True), index(building=True), index()]
    state, _, _ = await ended_as(monkeypatch, work(began=True), named=still)
    assert (state, quick) == (State.VERIFYING, [0.5, 0.5])
    state, _, _ = await ended_as(monkeypatch, work(began=True, timeline=4), named=index())
    assert state is State.NEEDS_OPERATOR  # there was a failover


async def test_a_drop_ends_as_the_catalog_says(monkeypatch: pytest.MonkeyPatch) -> None:
    of = change(State.RUNNING, plan=DROP)
    assert (await ended_as(monkeypatch, work(of)))[0] is State.VERIFYING
    state, _, detail = await ended_as(monkeypatch, work(of, why=Why("it ended")), by_oid=index())
    assert (state, detail["outcome"]) == (State.FAILED, "it ended; the index stands as before")
    half = index(valid=False)
    for changed, expected in (
        ({}, State.NEEDS_OPERATOR), ({"why": Why("x", True)}, State.QUEUED), ({"resumed": True}, State.QUEUED),
        ({"why": Why("x", True), "attempts": 5}, State.NEEDS_OPERATOR), ({"resumed": True, "attempts": 5}, State.NEEDS_OPERATOR),
    ):  # fmt: skip
        made = work(of, guards={"observer": {"max_attempts": 5}}, **changed)
        assert (await ended_as(monkeypatch, made, by_oid=half))[0] is expected
        assert made.requeued is (expected is State.QUEUED)
    was_invalid = change(State.RUNNING, plan=replace(DROP, saved={"valid": False}))
    for live, expected in ((True, State.FAILED), (False, State.NEEDS_OPERATOR)):
        assert (await ended_as(monkeypatch, work(was_invalid), by_oid=replace(half, live=live)))[0] is expected


def seen(replaced: bool = False, current: Any = None, leftover: Any = None, wrong: str = "") -> Rebuilt:
    return Rebuilt(replaced, current, leftover, wrong)


@pytest.mark.parametrize(
    ("found", "changed", "state", "action"),
    [
        (seen(True, index(8)), {}, State.VERIFYING, "verify.intent"),
        (seen(True, index(8), index(7, valid=False)), {}, State.CLEANING, "leftover"),
        (seen(False, index(), wrong="gone"), {}, State.NEEDS_OPERATOR, "needs_operator"),
        (seen(False, index()), {}, State.FAILED, "failed"),
        (seen(False, index()), {"why": Why("x", True)}, State.QUEUED, "requeued"),
        (seen(False, index()), {"resumed": True}, State.QUEUED, "requeued"),  # it was never sent
        (seen(False, index(valid=False)), {"repair": True}, State.NEEDS_OPERATOR, "needs_operator"),
        (seen(False, index(valid=False)), {"repair": True, "why": Why("x", True)}, State.QUEUED, "requeued"),
        (
            seen(False, index()),
            {"repair": True, "why": Why("x", True), "attempts": 99},
            State.NEEDS_OPERATOR,
            "needs_operator",
        ),
        (seen(True, index(8)), {"repair": True}, State.FAILED, "repaired"),
    ],
)
async def test_a_rebuild_ends_as_the_catalog_says(
    monkeypatch: pytest.MonkeyPatch, found: Rebuilt, changed: dict[str, Any], state: State, action: str
) -> None:
    async def look(*_: Any) -> Rebuilt:
        return found

    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", look)
    plan = DROP if changed.get("repair") else REBUILD
    made = work(change(State.RUNNING, plan=plan), **changed)
    await settle._decide(made)
    assert made.hold.told[-1][:2] == (state, action)


async def test_what_has_to_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: Any) -> Rebuilt:
        return seen(False, index(), index(8, valid=False), "why")

    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", look)
    catalog(monkeypatch, named=index(valid=False))
    eye: Any = None
    assert await settle.leftover_of(work(began=True), eye) == (index(valid=False), "")
    assert await settle.leftover_of(work(change(State.RUNNING, plan=REBUILD)), eye) == (index(8, valid=False), "why")


async def test_nothing_is_said_where_the_index_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an index in place there is `wrong`; alone it moves nothing, so that nobody is told what is not so."""
    for replaced, repair in ((True, False), (True, True), (False, True)):

        async def look(*_: Any, replaced: bool = replaced) -> Rebuilt:
            return seen(replaced, None)

        monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", look)
        made = work(change(State.RUNNING, plan=REBUILD), repair=repair)
        await settle.decide_rebuild(made, None)  # type: ignore[arg-type]
        assert made.hold.told == []


async def test_a_copy_that_is_still_built_is_waited_for(monkeypatch: pytest.MonkeyPatch, quick: list[float]) -> None:
    looks = [seen(False, index(), index(8, valid=False, building=True)), seen(True, index(8))]

    async def look(*_: Any) -> Rebuilt:
        return looks.pop(0)

    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", look)
    made = work(change(State.RUNNING, plan=REBUILD))
    await settle.decide_rebuild(made, None)  # type: ignore[arg-type]
    assert (made.hold.actions, quick) == (["verify.intent"], [0.5])


@pytest.mark.parametrize(
    ("unique", "ready", "saved", "harm"),
    [(True, True, {"valid": False}, True), (True, True, {}, False), (True, False, {"valid": False}, False),
     (False, True, {"valid": False}, False)],
)  # fmt: skip
async def test_a_copy_harms_where_the_original_does_not_hold_the_rule(
    monkeypatch: pytest.MonkeyPatch, unique: bool, ready: bool, saved: dict[str, Any], harm: bool
) -> None:
    left = index(8, valid=False, unique=unique, ready=ready)

    async def look(*_: Any) -> Rebuilt:
        return seen(False, index(), left)

    monkeypatch.setattr("indexpilot_tui.engine.changes.rebuild.look", look)
    made = work(change(State.RUNNING, plan=replace(REBUILD, saved=saved)))
    await settle.decide_rebuild(made, None)  # type: ignore[arg-type]
    assert ("rejects duplicate rows" in made.hold.last.get("outcome", "")) is harm
    assert ("outcome" in settle.leftover_told(left)) is (unique and ready)


@pytest.mark.parametrize(
    ("changed", "abort", "state"),
    [
        ({"why": Why("x", True)}, None, State.QUEUED), ({"why": Why("x", True)}, "bob", State.FAILED),
        ({"why": Why("x", True), "attempts": 5}, None, State.FAILED), ({"why": Why("x")}, None, State.FAILED),
        ({"resumed": True}, None, State.FAILED),  # a build that was sent and left nothing
    ],
)  # fmt: skip
async def test_what_is_tried_again(changed: dict[str, Any], abort: str | None, state: State) -> None:
    made = work(guards={"observer": {"max_attempts": 5}}, **changed)
    made.hold.abort = abort
    await settle.back_or_failed(made, "requeued", "left")
    assert made.hold.state is state
    assert made.requeued is (state is State.QUEUED)
    if state is State.FAILED:
        sentence = changed["why"].sentence if "why" in changed else "the executor ended before"
        assert made.hold.last["outcome"].startswith(sentence)
        assert ("(attempt" in made.hold.last["outcome"]) is ("why" in changed and changed["why"].retry)


@pytest.mark.parametrize(
    ("plan", "facts", "state"),
    [
        (DROP, index(valid=False), State.NEEDS_OPERATOR), (DROP, index(), State.FAILED), (DROP, None, State.FAILED),
        (replace(DROP, saved={"valid": False}), index(valid=False), State.FAILED), (REBUILD, index(valid=False), State.FAILED),
    ],
)  # fmt: skip
async def test_a_half_dropped_index_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, plan: Any, facts: Any, state: State
) -> None:
    catalog(monkeypatch, by_oid=facts)
    made = work(change(State.QUEUED, plan=plan))
    await settle.end_before_the_deed(made, "no approval")
    assert made.hold.state is state


def answered(sqlstate: str | None) -> psycopg.Error:
    return psycopg.errors.lookup(sqlstate)("m") if sqlstate else psycopg.OperationalError("m")


def test_why_a_statement_ended() -> None:
    known = Why("known", True)
    assert settle.why_ended(Ended(True, None, STOP, ()), known) == Why("gave way", True)
    assert settle.why_ended(Ended(True, None, None, ()), known) == Why()
    assert settle.why_ended(Ended(False, None, None, ()), known) == known
    assert settle.why_ended(Ended(False, None, None, ()), Why()).sentence == "the connection broke before the answer"
    deadlock = settle.why_ended(Ended(True, answered("40P01"), None, ("pid 5",)), known)
    assert (deadlock.retry, "rival: pid 5" in deadlock.sentence) == (True, True)
    assert "a session that waited" in settle.why_ended(Ended(True, answered("40P01"), None, ()), known).sentence
    double = settle.why_ended(Ended(True, answered("23505"), None, ()), known)
    assert (double.retry, "the table has duplicates" in double.sentence) == (False, True)
    assert "(" not in settle.why_ended(Ended(True, answered("42501"), None, ()), known).sentence


@pytest.mark.parametrize(
    ("ended", "state", "actions", "foreign"),
    [
        (Ended(True, None, None, ()), State.RUNNING, ["ddl.outcome"], False),
        (Ended(True, answered("42P07"), None, ()), State.RUNNING, ["ddl.outcome"], True),
        (Ended(True, answered("23505"), None, ()), State.RUNNING, ["ddl.outcome"], False),
        (Ended(False, None, None, ()), State.RUNNING, ["lost"], False),
        (Ended(False, None, None, ()), State.CANCELLING, [], False),
    ],
)
async def test_the_outcome_is_told(ended: Ended, state: State, actions: list[str], foreign: bool) -> None:
    made = work(state=state)
    await settle._after(made, ended)
    assert (made.hold.actions, made.foreign) == (actions, foreign)


@pytest.mark.parametrize(
    ("task", "backend", "alive", "state", "watched"),
    [
        (True, True, False, State.RUNNING, ("task", None)), (False, True, True, State.RUNNING, (None, None)),
        (False, True, True, State.CANCELLING, (None, "resumed")), (False, True, False, State.RUNNING, None),
        (False, False, True, State.RUNNING, None), (True, False, True, State.RUNNING, None),
    ],
)  # fmt: skip
async def test_what_is_watched_to_its_end(
    monkeypatch: pytest.MonkeyPatch, task: bool, backend: bool, alive: bool, state: State, watched: Any
) -> None:
    calls: list[Any] = []

    async def watch(work: Any, backend: Any, rules: Any, task: Any, already: Any = None) -> Ended:
        calls.append((task, already.guard if already else None))
        return Ended(True, None, None, ())

    async def is_alive(*_: Any) -> bool:
        return alive

    monkeypatch.setattr(settle, "watch", watch)
    monkeypatch.setattr(settle, "backend_alive", is_alive)
    catalog(monkeypatch, named=index())
    made = work(state=state, began=True, task="task" if task else None, backend=BACKEND if backend else None)
    await settle.follow(made)
    assert calls == ([] if watched is None else [watched])
    assert made.hold.actions[-1] == "verify.intent"  # the catalog decides, whatever was seen


def test_the_end_of_the_window_stops_no_way_back() -> None:
    window = {"maintenance_window": {"enabled": True}}
    assert settle.rules_of(work(guards=window)).window is not None
    assert settle.rules_of(work(guards=window, parent=change())).window is None
    assert settle.rules_of(work(guards={"maintenance_window": {"enabled": False}})).window is None
    assert settle.rules_of(work(repair=True)).kind == "reindex"
    assert settle.rules_of(work()).kind == "create"


def test_pauses_of_a_clean_up() -> None:
    assert [cleaning.pause(n, unique=False) for n in (*range(8), 99)] == [0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0, 30.0]
    assert [cleaning.pause(n, unique=True) for n in (0, 3, 99)] == [0.2, 1.0, 1.0]
