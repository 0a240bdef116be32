"""What a way back is planned from, and what is refused; no server is needed for that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import rollback
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import RefusedError, UsageError
from tests.unit.bench_of_changes import DROP, REBUILD, index
from tests.unit.desk import FACTS, PLAN, change

DROPPED = replace(DROP, saved={"definition": PLAN.ddl.replace("CONCURRENTLY ", ""), "comment": "c"})


@pytest.fixture(autouse=True)
def catalog(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    seen = SimpleNamespace(by_oid=index(), named=None, table=("public", "orders", "shop"))

    async def index_by_oid(*_: Any) -> Any:
        return seen.by_oid

    async def index_by_name(*_: Any) -> Any:
        return seen.named

    async def table_now(*_: Any) -> Any:
        return seen.table

    async def plan_drop(session: Any, oid: int, schema: str, name: str, *, allow_unique: bool) -> Any:
        assert (oid, allow_unique) == (7, True)
        return replace(DROP, index=name)

    for name, asked in (("index_by_oid", index_by_oid), ("index_by_name", index_by_name), ("table_now", table_now),
                        ("plan_drop", plan_drop)):  # fmt: skip
        monkeypatch.setattr(rollback, name, asked)
    return seen


def made(state: State = State.DONE, plan: Any = PLAN, **changed: Any) -> Any:
    return change(state, plan=plan, **({"index_oid": 7} | changed))


async def planned(of: Any, **facts: Any) -> Any:
    session: Any = SimpleNamespace(facts=replace(FACTS, **facts))
    return await rollback.plan_rollback(session, of)


@pytest.mark.parametrize("state", list(State))
async def test_what_is_there_can_be_taken_back(state: State) -> None:
    if state in (State.OBSERVING, State.DONE, State.NEEDS_OPERATOR):
        assert (await planned(made(state))).kind == "drop"
    else:
        with pytest.raises(RefusedError, match="nothing to take back"):
            await planned(made(state))


@pytest.mark.parametrize(
    ("of", "facts", "seen", "why"),
    [
        (made(), {"system_identifier": "8"}, {}, "another cluster"), (made(), {"database": "x"}, {}, "made in database"),
        (made(plan=REBUILD), {}, {}, "same index anew"), (made(index_oid=None), {}, {}, "is gone"),
        (made(), {}, {"by_oid": None}, "is gone"), (made(), {}, {"by_oid": index(name="x")}, "is called public.x now"),
        (made(), {}, {"by_oid": index(schema="x")}, "is called x."), (made(plan=DROPPED), {}, {"table": None}, "table of change"),
        (made(plan=DROPPED), {}, {"named": index(9)}, "is taken by another"),
        (made(plan=replace(DROPPED, saved=DROPPED.saved | {"valid": False})), {}, {}, "INVALID leftover"),
    ],
)  # fmt: skip
async def test_what_cannot_be_taken_back(
    catalog: SimpleNamespace, of: Any, facts: dict[str, Any], seen: dict[str, Any], why: str
) -> None:
    vars(catalog).update(seen)
    with pytest.raises(RefusedError, match=why):
        await planned(of, **facts)


async def test_a_partitioned_index_is_dropped_whole_unless_others_would_go_with_it(catalog: SimpleNamespace) -> None:
    assert (await planned(made())).steps == ()
    catalog.by_oid = index(partitioned=True)
    (step,) = (await planned(made())).steps
    assert step.deed == "drop"
    with pytest.raises(RefusedError, match="took in indexes"):
        await planned(made(plan=replace(PLAN, saved={"adopted": [{"index": "x"}]})))


async def test_a_dropped_index_is_made_again_where_it_was() -> None:
    plan = await planned(made(plan=DROPPED))
    assert (plan.kind, plan.saved["restore"]["comment"], "TABLESPACE" in plan.ddl.upper()) == ("create", "c", False)
    there = replace(DROPPED, saved=DROPPED.saved | {"tablespace": "fast"})
    assert "fast" in (await planned(made(plan=there))).ddl


@pytest.mark.parametrize(
    ("restore", "words"),
    [
        ({}, []), (None, []), ({"statistics": {"10": 5, "2": 7}}, ["column 2 set statistics 7", "column 10 set statistics 5"]),
        ({"clustered": True}, ["cluster on"]), ({"replica_identity": True}, ["replica identity"]),
        ({"comment": "it's"}, ["comment on"]), ({"clustered": False, "replica_identity": False, "comment": ""}, []),
    ],
)  # fmt: skip
def test_what_a_definition_does_not_say_is_restored(restore: Any, words: list[str]) -> None:
    texts = [s.as_string(None) for s in rollback.restoring(replace(PLAN, saved={"restore": restore}))]
    assert len(texts) == len(words)
    assert all(word in text for word, text in zip(words, texts, strict=True))


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"parent_id": 1}, True), ({"parent_id": 2}, False), ({"parent_id": 1, "plan": PLAN}, False),
        ({"parent_id": 1, "state": State.FAILED}, False),
    ],
)  # fmt: skip
async def test_a_way_back_is_proposed_once(other: dict[str, Any], found: bool) -> None:
    of = {"plan": DROP, "state": State.PROPOSED} | other
    there = replace(change(plan=of["plan"]), id=5, state=of["state"], parent_id=of["parent_id"])

    async def changes(limit: int) -> Any:
        return [there][:limit]

    async def propose(plan: Any, **said: Any) -> int:
        assert (said["parent_id"], said["rollback"]) == (1, True)
        return 6

    journal: Any = SimpleNamespace(changes=changes, propose=propose)
    session: Any = SimpleNamespace(facts=FACTS)
    assert await rollback.propose_rollback(session, journal, made(), "why") == (5 if found else 6)
    if not found:
        with pytest.raises(UsageError, match="reason"):
            await rollback.propose_rollback(session, journal, made(), " ")
