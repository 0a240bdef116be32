"""The way back as a plan to read, and what it costs; no server is needed for that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import guide, guide_cost
from indexpilot_tui.engine.model.change import Event, State, Step
from indexpilot_tui.engine.model.wayback import HELD, NOT_REHEARSED, Rehearsal
from indexpilot_tui.errors import RefusedError, ServerError
from tests.unit.bench_of_changes import DROP, REBUILD, index
from tests.unit.desk import NOW, PLAN, approval, change

SAVED = {
    "definition": "CREATE INDEX orders_customer_idx ON public.orders USING btree (customer_id)", "valid": True,
    "comment": "it's old", "tablespace": "fast", "options": ["fillfactor=70", "x=1"], "statistics": {"2": 7, "1": 9},
    "clustered": True, "replica_identity": True, "size_bytes": 8192, "scans": 4, "scans_since": "2026-01-01",
}  # fmt: skip
DROPPED = replace(DROP, saved=SAVED)
POOR = replace(DROP, saved={"definition": SAVED["definition"], "comment": "", "options": [], "scans": 0, "clustered": False})
PARTS = replace(PLAN, steps=(Step("root", "create r", "public", "orders", 1, "r"),))


class Journal:
    def __init__(self, *there: Any) -> None:
        self.there = there

    async def changes(self, limit: int) -> Any:
        return list(self.there)[:limit]


@pytest.fixture(autouse=True)
def catalog(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    seen = SimpleNamespace(by_oid=index(), text=("d", 4096), against=None, steps=(), now=NOW)

    async def index_by_oid(session: Any, oid: int) -> Any:
        return seen.by_oid if oid == 7 else None

    async def index_text(*_: Any) -> Any:
        return seen.text

    async def plan_rollback(*_: Any) -> Any:
        if seen.against:
            raise RefusedError(seen.against)
        return replace(PLAN, steps=seen.steps)

    async def database_now(*_: Any) -> Any:
        return seen.now

    for name, asked in (("index_by_oid", index_by_oid), ("index_text", index_text), ("plan_rollback", plan_rollback),
                        ("database_now", database_now)):  # fmt: skip
        monkeypatch.setattr(guide, name, asked)
    monkeypatch.setattr(guide_cost, "index_by_oid", index_by_oid)
    return seen


def made(plan: Any = PLAN, state: State = State.DONE, **changed: Any) -> Any:
    return change(state, plan=plan, **({"index_oid": 7} | changed))


def event(action: str, **detail: Any) -> Event:
    return Event(1, NOW, "bob", action, detail)


async def told(of: Any, *there: Any) -> Any:
    return await guide.way_back(None, Journal(*there), of)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(State))
async def test_what_stands_against_it_is_told_before_the_server_is_asked(state: State, catalog: SimpleNamespace) -> None:
    catalog.against = "the name is taken"
    why = (await told(made(state=state))).why_not
    if state in (State.OBSERVING, State.DONE, State.NEEDS_OPERATOR):
        assert why == "the name is taken"
        catalog.against = None
        assert (await told(made(state=state))).why_not == ""
    elif state in (State.FAILED, State.ROLLED_BACK, State.REJECTED, State.EXPIRED, State.WITHDRAWN):
        assert why == f"change 1 is {state.value}: there is nothing to take back"
    else:
        assert why == f"change 1 is {state.value}: it has to be carried out first"


@pytest.mark.parametrize(
    ("approvals", "covered"),
    [
        ((approval("bob"),), "by the approval of bob until 2026-06-11 03:00"), ((), ""), ((approval(plan=DROP),), ""),
        ((approval("bob", ago=86_400),), "by the approval of bob until 2026-06-10 03:00"), ((approval(ago=86_401),), ""),
        ((approval("bob", ago=60), approval("zoe")), "by the approval of zoe until 2026-06-11 03:00"),
        ((approval("bob"), approval("zoe", ago=90_000)), "by the approval of bob until 2026-06-11 03:00"),
    ],
)  # fmt: skip
async def test_an_approval_of_the_same_plan_covers_its_way_back_for_a_day(approvals: Any, covered: str) -> None:
    found = (await told(made(approvals=approvals))).covered
    assert covered in found
    assert ("needs an approval of its own" in found) is not bool(covered)


@pytest.mark.parametrize(
    ("of", "found"),
    [
        ({"parent_id": 1}, 9), ({"parent_id": 2}, None), ({"parent_id": 1, "state": State.FAILED}, None),
        ({"parent_id": None}, None),
    ],
)  # fmt: skip
async def test_a_way_back_that_is_proposed_already_is_named(of: dict[str, Any], found: int | None) -> None:
    assert (await told(made(), replace(made(DROP), id=9, **({"state": State.PROPOSED} | of)))).proposed == found
    assert (await told(made(), made(), replace(made(DROP), id=9, **({"state": State.PROPOSED} | of)))).proposed == found


async def test_the_newest_rehearsal_is_shown() -> None:
    old, new = (Rehearsal(result, "w", (("drop", 1.0),), 2, (), 180000) for result in (NOT_REHEARSED, HELD))
    events = (event("rehearsed", **old.to_json()), event("rehearsed", **new.to_json()), event("verified"))
    assert (await told(made(events=events))).rehearsal == replace(new, at=NOW, by="bob")
    assert (await told(made(events=(event("verified"),)))).rehearsal is None


async def test_the_way_back_from_a_create_is_a_drop(catalog: SimpleNamespace) -> None:
    back = await told(made())
    assert (back.kind, back.statements) == ("drop", ("DROP INDEX CONCURRENTLY public.orders_customer_idx",))
    assert dict(back.saved) == {"made by": PLAN.ddl, "index OID": "7"}
    assert any("CONCURRENTLY" in step and "stops nobody" in step for step in back.steps)
    assert any("OID 7" in text for text in back.proof)
    assert back.frees_bytes == 4096
    before = await told(made(index_oid=None, state=State.PROPOSED))
    assert (dict(before.saved), before.frees_bytes) == ({"made by": PLAN.ddl}, None)
    assert any("its OID" in text for text in before.proof)
    for gone in ({"by_oid": None}, {"text": None}):
        vars(catalog).update({"by_oid": index(), "text": ("d", 4096)} | gone)
        assert (await told(made())).frees_bytes is None


async def test_of_a_partitioned_table_it_locks_and_says_so(catalog: SimpleNamespace) -> None:
    back = await told(made(PARTS))
    assert back.statements == ('DROP INDEX "public"."orders_customer_idx"',)
    assert any("locks the table and all its partitions" in step for step in back.steps)
    catalog.steps = PARTS.steps  # the table is partitioned by now
    assert any("locks the table" in step for step in (await told(made())).steps)
    sizes = (event("verified", size_bytes=1), event("verified", partitions=2, size_bytes=24576))
    assert (await told(made(PARTS, events=sizes))).frees_bytes == 24576
    assert (await told(made(events=(event("verified", size_bytes=1),)))).frees_bytes == 4096  # read anew where it can be
    assert (await told(made(events=(event("other", partitions=2, size_bytes=1),)))).frees_bytes == 4096


async def test_the_way_back_from_a_drop_restores_all_that_was_saved() -> None:
    back = await told(made(DROPPED))
    assert (back.kind, len(back.statements), back.frees_bytes) == ("create", 6, None)
    assert dict(back.saved) == {
        "definition": SAVED["definition"], "comment": "it's old", "tablespace": "fast",
        "storage parameters": "fillfactor=70, x=1", "statistics targets": "column 1: 9, column 2: 7", "CLUSTER mark": "yes",
        "replica identity": "yes", "size before": "8192 bytes", "scans before": "4 since 2026-01-01",
    }  # fmt: skip
    assert any("5 more statements for what" in step for step in back.steps)
    assert any("letter by letter" in text for text in back.proof)


async def test_what_an_index_did_not_have_is_told_as_that() -> None:
    back = await told(made(POOR))
    assert len(back.statements) == 1
    shown = dict(back.saved)
    assert (shown["comment"], shown["tablespace"], shown["storage parameters"]) == ("none", "default", "default")
    assert (shown["statistics targets"], shown["CLUSTER mark"], shown["replica identity"]) == ("default", "no", "no")
    assert (shown["size before"], shown["scans before"]) == ("0 bytes", "0")
    assert not any("more statement" in step or "ANALYZE" in step for step in back.steps)
    one = await told(made(replace(POOR, saved=POOR.saved | {"comment": "c"})))
    assert any("1 more statement for what" in step for step in one.steps)
    two = await told(made(replace(POOR, saved=POOR.saved | {"comment": "c", "clustered": True})))
    assert any("2 more statements for what" in step for step in two.steps)
    expression = POOR.saved | {"definition": "create index i on public.orders (customer_id, lower(b))"}
    assert any("ANALYZE" in step for step in (await told(made(replace(POOR, saved=expression)))).steps)


async def test_of_an_invalid_leftover_nothing_comes_back() -> None:
    back = await told(made(replace(POOR, saved=POOR.saved | {"valid": False})))
    assert back.statements == ()
    assert not any("more statement" in step for step in back.steps)


async def test_a_rebuild_has_nothing_to_go_back_to() -> None:
    plan = replace(REBUILD, saved={"relfilenode": 70, "size_bytes": 8192})
    back = await told(made(plan))
    assert (back.kind, back.statements, back.steps, back.proof) == ("none", (), (), ())
    shown = dict(back.saved)
    assert (shown["index OID"], shown["relfilenode"], shown["bytes"]) == ("7 before", "70 before", "8192 before")
    events = (event("verified", before={"oid": 7, "relfilenode": 71}, after={"oid": 8, "relfilenode": 80, "size_bytes": 5}),
              event("other", after={"oid": 99}))  # fmt: skip
    shown = dict((await told(made(plan, events=events))).saved)
    assert (shown["index OID"], shown["relfilenode"]) == ("7 before, 8 after", "71 before, 80 after")


class Simulator:
    """Stands in for the what-if room."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.asked = fails, list[str]()

    async def simulate(self, session: Any, ddl: str, statements: Any) -> Any:
        self.asked.append(ddl)
        if self.fails:
            raise ServerError("no shadow")
        return SimpleNamespace(index=SimpleNamespace(size_bytes=1, build_seconds=(2.0, 3.0), wal_bytes=4, temp_bytes=5))


async def cost(simulator: Simulator, plan: Any = DROPPED) -> Any:
    return await guide_cost.cost_of_return(None, simulator, made(plan), "create index back")  # type: ignore[arg-type]


async def test_what_a_return_costs_is_forecast_by_what_can_be_forecast_now(catalog: SimpleNamespace) -> None:
    room = Simulator()
    found = await cost(room)
    assert (found.size_bytes, found.seconds, found.wal_bytes, found.temp_bytes) == (1, (2.0, 3.0), 4, 5)
    assert found.basis == guide_cost.BY_MODEL
    catalog.by_oid = None
    await cost(room)
    await cost(room, replace(DROPPED, index_oid=None))
    assert room.asked == ["REINDEX INDEX CONCURRENTLY public.orders_customer_idx", "create index back", "create index back"]


@pytest.mark.parametrize(("seconds", "told"), [(60.0, (0.0, 60.0)), (None, None)])
async def test_without_a_forecast_the_upper_bounds_are_told(
    monkeypatch: pytest.MonkeyPatch, seconds: Any, told: Any
) -> None:
    async def bounds(session: Any, plan: Any) -> Any:
        assert (plan.kind, plan.table) == ("create", "orders")
        return SimpleNamespace(index_bytes=10, seconds=seconds, wal_bytes=20, temp_bytes=30, basis="1,000 rows")

    monkeypatch.setattr(guide_cost, "build_estimate", bounds)
    found = await cost(Simulator(fails=True))
    assert (found.size_bytes, found.seconds, found.wal_bytes, found.temp_bytes) == (10, told, 20, 30)
    assert found.basis == "upper bounds (1,000 rows); there is no forecast: no shadow"
