"""The rehearsal of a way back, on a shadow that is written down: what it plays, and what it calls held."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import rehearsal
from indexpilot_tui.engine.model.change import Plan, State, Step
from indexpilot_tui.engine.model.wayback import DIFFERS, HELD, NOT_REHEARSED, Rehearsal
from tests.unit.bench_of_changes import DROP, REBUILD
from tests.unit.desk import PLAN, change

INDEX = "orders_customer_idx"
DEFINITION = f"CREATE INDEX {INDEX} ON public.orders USING btree (customer_id)"
DROPPED = replace(DROP, saved={"definition": DEFINITION, "valid": True})
REBUILT = replace(REBUILD, saved={"definition": DEFINITION})
BARE: dict[str, Any] = {"comment": None, "tablespace": None, "options": [], "statistics": None, "is_clustered": False,
                        "is_replica_identity": False}  # fmt: skip
OF_THEN = DEFINITION.replace("customer_id", "id")
OTHER = {"orders_pkey": "CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)"}
TABLE = PLAN.table_oid


class Shadow:
    """Stands in for the shadow's database. It takes the texts that make and drop `INDEX` at their word; `spoils` is what a
    text does to the definitions beside, or the error that it ends with."""

    def __init__(self, *, stands: bool = False, version: int = 180000, spoils: Any = None, tablespaces: Any = ()) -> None:
        self.indexes = dict(OTHER) | ({INDEX: DEFINITION} if stands else {})
        self.cluster = SimpleNamespace(version=version)
        self.issues: list[str] = []
        self.oids = {TABLE: 16999}
        self.snapshot: Any = None
        self.sent: list[str] = []
        self.ours: list[str] = []
        self.spoils = spoils or {}
        self.tablespaces = set(tablespaces)

    async def foreign(self, statement: Any) -> None:
        text = statement.as_string(None)
        self.sent.append(text)
        for word, spoiled in self.spoils.items():
            if word in text:
                if isinstance(spoiled, BaseException):
                    raise spoiled
                self.indexes |= spoiled
        if text.startswith("DROP INDEX"):
            self.indexes.pop(INDEX, None)
        elif text.startswith("CREATE INDEX"):
            self.indexes.setdefault(INDEX, DEFINITION)
        self.indexes = {name: definition for name, definition in self.indexes.items() if definition}

    async def rows(self, query: Any, params: Any = None) -> Any:
        if query == rehearsal._INDEXES:
            return [{"oid": n, "schema": "public", "name": name, "definition": definition, "valid": True}
                    for n, (name, definition) in enumerate(self.indexes.items())]  # fmt: skip
        if isinstance(params, dict):
            return [BARE]
        if params:
            return [{"x": 1}] if params[0] in self.tablespaces else []
        self.ours.append(query if isinstance(query, str) else query.as_string(None))
        return []


async def rehearse(shadow: Shadow, plan: Plan, relations: Any = None, **changed: Any) -> Rehearsal:
    kinds = {TABLE: "r"} if relations is None else relations
    shadow.snapshot = SimpleNamespace(
        relations=kinds, server=SimpleNamespace(version=160004), table=lambda oid: {"r": "a table"}.get(kinds[oid])
    )

    async def read(session: Any, names: Any, *, also: Any) -> Any:
        assert also == (TABLE,)
        return shadow.snapshot

    @asynccontextmanager
    async def fresh(snapshot: Any) -> Any:
        yield shadow

    of = change(State.DONE, plan=plan, **changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "read_snapshot", read)
        patch.setattr(rehearsal, "disagreement", lambda plan: "")  # its own tests: test_not_ours.py
        return await rehearsal.rehearse(SimpleNamespace(fresh=fresh), None, of)  # type: ignore[arg-type]


def staying(shadow: Shadow, text: str) -> Any:
    """A shadow on which this text does nothing."""
    kept = shadow.foreign

    async def foreign(statement: Any) -> None:
        if statement.as_string(None) != text:
            await kept(statement)

    return foreign


def played(done: Rehearsal) -> list[str]:
    return [text for text, _ in done.statements]


THEN_DROP = f"DROP INDEX CONCURRENTLY public.{INDEX}"


@pytest.mark.parametrize("stands", [False, True])
async def test_a_create_is_rehearsed_from_before_it_whether_it_was_carried_out_or_not(stands: bool) -> None:
    shadow = Shadow(stands=stands)
    done = await rehearse(shadow, PLAN)
    assert (done.result, done.differences, done.compared, done.server_version) == (HELD, (), 1, 180000)
    assert played(done) == [PLAN.ddl, THEN_DROP]
    assert shadow.sent == [*([f'DROP INDEX "public"."{INDEX}"'] if stands else []), PLAN.ddl, THEN_DROP]


@pytest.mark.parametrize("stands", [False, True])
async def test_a_drop_is_rehearsed_from_before_it_with_all_that_a_definition_does_not_say(stands: bool) -> None:
    shadow = Shadow(stands=stands)
    done = await rehearse(shadow, replace(DROPPED, saved=DROPPED.saved | {"comment": "c"}))
    assert (done.result, done.compared) == (HELD, 2)
    commented = f"""comment on index "public"."{INDEX}" is 'c'"""
    assert played(done)[0] == DROPPED.ddl
    assert played(done)[1].startswith(f"CREATE INDEX CONCURRENTLY {INDEX}")
    assert played(done)[2] == commented
    before = shadow.sent[: shadow.sent.index(DROPPED.ddl)]
    assert before == [*([] if stands else [DEFINITION]), commented]


async def test_after_a_rebuild_nothing_may_be_lost() -> None:
    done = await rehearse(Shadow(stands=True), REBUILT)
    assert (done.result, done.compared, played(done)) == (HELD, 2, [REBUILT.ddl])
    lost = await rehearse(Shadow(stands=True, spoils={"REINDEX": {"orders_pkey": None}}), REBUILT)
    assert (lost.result, lost.differences) == (DIFFERS, ("public.orders_pkey: was there before and is not now",))


async def test_a_partitioned_table_is_rehearsed_step_by_step() -> None:
    steps = tuple(Step("leaf", f"CREATE INDEX {n}", "public", "orders", TABLE, INDEX) for n in range(2))
    done = await rehearse(Shadow(), replace(PLAN, steps=steps))
    assert played(done) == ["CREATE INDEX 0", "CREATE INDEX 1", f'DROP INDEX "public"."{INDEX}"']


@pytest.mark.parametrize(
    ("plan", "stands", "spoils", "differences"),
    [
        (PLAN, False, {"DROP": {"extra": "x"}}, ["public.extra: is there and was not before"]),
        (PLAN, False, {"DROP": {"orders_pkey": "y"}}, [f"definition was {OTHER['orders_pkey']!r} and is 'y'"]),
        (DROPPED, True, {"CREATE": {INDEX: "CREATE INDEX other"}},
         [f"definition was {DEFINITION!r} and is 'CREATE INDEX other'", "the definition is not the saved one"]),
        (replace(REBUILT, saved={"definition": OF_THEN}), True, {}, ["the definition is not the saved one"]),
        (DROPPED, True, {"CREATE": {INDEX: ""}}, [f"public.{INDEX}: was there before and is not now"]),
    ],
)  # fmt: skip
async def test_any_index_that_is_another_one_afterwards_differs(
    plan: Plan, stands: bool, spoils: Any, differences: list[str]
) -> None:
    done = await rehearse(Shadow(stands=stands, spoils=spoils), plan)
    assert done.result == DIFFERS
    assert len(done.differences) == len(differences), done.differences
    assert all(said in told for said, told in zip(differences, done.differences, strict=True))


async def test_of_a_create_no_definition_has_to_come_back() -> None:
    taken = Shadow()
    taken.foreign = staying(taken, THEN_DROP)  # type: ignore[method-assign]
    done = await rehearse(taken, replace(PLAN, saved={"definition": OF_THEN}))
    assert done.differences == (f"public.{INDEX}: is there and was not before",)


@pytest.mark.parametrize(
    ("plan", "spoils"),
    [
        (PLAN, {"CREATE": {INDEX: ""}}),  # nothing was made
        (replace(PLAN, steps=(Step("leaf", "select 1", "public", "orders", TABLE, INDEX),)), {}),
        (replace(DROPPED, ddl="select 1"), {}), (replace(REBUILT, ddl=THEN_DROP), {}),
        (REBUILT, {"REINDEX": {INDEX: ""}}),
    ],
)  # fmt: skip
async def test_a_change_that_does_nothing_proves_nothing(plan: Plan, spoils: Any) -> None:
    done = await rehearse(Shadow(stands=plan.kind != "create", spoils=spoils), plan)
    assert done.result == NOT_REHEARSED
    assert f"what it is for ({plan.kind} {INDEX})" in done.why
    assert done.statements


async def test_a_change_that_finds_its_work_done_proves_nothing() -> None:
    shadow = Shadow(stands=True)
    shadow.foreign = staying(shadow, f'DROP INDEX "public"."{INDEX}"')  # type: ignore[method-assign]
    done = await rehearse(shadow, PLAN)
    assert (done.result, "what it is for" in done.why) == (NOT_REHEARSED, True)


def failure(text: str) -> psycopg.Error:
    return psycopg.errors.UndefinedObject(text)


@pytest.mark.parametrize(
    ("plan", "word", "result", "told"),
    [
        (PLAN, "CREATE INDEX", NOT_REHEARSED, "the change could not be carried out on the shadow: no such thing"),
        (DROPPED, DEFINITION, NOT_REHEARSED, "before could not be carried out on the shadow: no such thing"),
        (PLAN, THEN_DROP, DIFFERS, "the rollback failed: no such thing"),  # what fails here would fail there
    ],
)
async def test_where_a_rehearsal_failed_is_told(plan: Plan, word: str, result: str, told: str) -> None:
    done = await rehearse(Shadow(spoils={word: failure("no\nsuch thing")}), plan)
    assert done.result == result
    assert (done.why or done.differences[0]) == told
    assert played(done) == ([PLAN.ddl] if result == DIFFERS else [])


async def test_what_cannot_be_rehearsed_is_said() -> None:
    gone = await rehearse(Shadow(), PLAN, relations={5: "r"})
    assert (gone.result, gone.why, gone.server_version) == (
        NOT_REHEARSED, f"the table with OID {TABLE} is gone", 160004)  # fmt: skip
    taken = await rehearse(Shadow(), replace(PLAN, saved={"adopted": [{"index": "public.old"}]}))
    assert (taken.result, "takes in public.old" in taken.why) == (NOT_REHEARSED, True)
    leftover = await rehearse(Shadow(stands=True), replace(DROPPED, saved=DROPPED.saved | {"valid": False}))
    assert (leftover.result, "INVALID leftover" in leftover.why) == (NOT_REHEARSED, True)
    unread = await rehearse(Shadow(stands=True), replace(DROPPED, saved=DROPPED.saved | {"definition": "CREATE INDEX"}))
    assert (unread.result, "parser says" in unread.why) == (NOT_REHEARSED, True)


@pytest.mark.parametrize(
    ("issues", "restored", "relations", "result"),
    [
        (["no type x"], (), {TABLE: "r"}, NOT_REHEARSED), (["no type x"], (TABLE,), {TABLE: "r"}, HELD),
        (["no type x"], (TABLE,), {TABLE: "r", 5: "v"}, HELD), (["no type x"], (TABLE,), {TABLE: "r", 5: "r"}, NOT_REHEARSED),
        ([], (), {TABLE: "r"}, NOT_REHEARSED),
    ],
)  # fmt: skip
async def test_a_table_that_the_shadow_lacks_is_not_rehearsed(
    issues: list[str], restored: Any, relations: Any, result: str
) -> None:
    shadow = Shadow()
    shadow.issues, shadow.oids = issues, dict.fromkeys(restored, 1)
    done = await rehearse(shadow, PLAN, relations)
    assert done.result == result
    if result == NOT_REHEARSED:
        assert done.why == f"the shadow could not restore it: {issues[0] if issues else 'its table is not there'}"


THERE = replace(DROPPED, saved=DROPPED.saved | {"tablespace": "fast"})
MAKES = ["set allow_in_place_tablespaces = on", """create tablespace "fast" location ''"""]
GRANT = f'grant create on tablespace "fast" to "{rehearsal.ROLE}"'
MOVE = f'alter index "public"."{INDEX}" set tablespace "fast"'


@pytest.mark.parametrize(("there", "ours"), [((), [*MAKES, GRANT]), (("fast",), [GRANT])])
async def test_a_tablespace_is_made_where_it_is_missing(there: Any, ours: list[str]) -> None:
    shadow = Shadow(stands=True, version=150000, tablespaces=there)
    done = await rehearse(shadow, THERE)
    assert (done.result, shadow.ours) == (HELD, ours)
    assert shadow.sent[0] == MOVE
    assert "TABLESPACE fast" in played(done)[1]


async def test_before_15_a_tablespace_cannot_be_rehearsed() -> None:
    old = await rehearse(Shadow(stands=True, version=149999), THERE)
    assert (old.result, "cannot have the tablespace fast" in old.why) == (NOT_REHEARSED, True)
    plain = Shadow(stands=True, version=149999)
    assert (await rehearse(plain, DROPPED)).result == HELD
    assert (plain.ours, MOVE in plain.sent) == ([], False)
