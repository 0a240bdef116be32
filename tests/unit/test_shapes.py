"""Fingerprints of plans: what is planned on the target, with which values, and what is said where nothing is; no server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import plan_shapes
from indexpilot_tui.engine.changes.plan_shapes import HIDDEN, MAX_STATEMENTS, compare, hidden, read_plans, read_shapes, shape
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.postgres.planner import NO_PLANNER
from indexpilot_tui.engine.postgres.session import Purpose
from indexpilot_tui.errors import ConnectError, PrivilegeError, ServerError
from indexpilot_tui.settings.model import Settings
from tests.unit.desk import FACTS, NOW, PLAN, Desk
from tests.unit.test_verification_plans import SCAN

ROOM = "indexpilot_tui.engine.changes"
ONE, TWO = "SELECT * FROM orders WHERE v = $1", "SELECT * FROM orders WHERE v = $1 AND w = $2"  # as they are deparsed
COLUMN = {"column": "v", "common": "c", "rare": "r", "middle": "m"}
PATH = {"path": '"$user", public', "login": "alice"}


class Planner(Desk):
    """A session that plans: `plans` gives the plan of a text, or an error in its place."""

    def __init__(
        self, plans: Any = None, *, columns: Any = (), others: Any = None, version: int = 180000, **more: Any
    ) -> None:
        self.sent: list[str] = []
        self.paths: list[list[str]] = []  # on which bare names were looked for
        self.homes: list[dict[str, str]] = []  # where they stand
        self.plans = plans or (lambda text: SCAN)
        self.parameters: int | None = 0
        answers = {"search_path": PATH, "code_of_others": others, "stats_points": list(columns), "other": None}
        super().__init__(answers, replace(FACTS, server_version=version), Purpose.PLANNER, package=ROOM, **more)

    async def execute(self, query: str) -> None:
        if query.startswith("deallocate"):
            self.sent.append(query)

    async def rows(self, query: Any, params: Any = None) -> Any:
        if isinstance(params, dict) and "path" in params:
            self.paths.append(params["path"])
            return self.homes
        text = query if isinstance(query, str) else query.as_string(None)
        if "explain" in text:
            self.sent.append(text)
            plan = self.plans(text)
            if isinstance(plan, BaseException):
                raise plan
            return [{"QUERY PLAN": [{"Plan": plan}]}]
        if text.startswith(("prepare", "deallocate")):
            self.sent.append(text)
        return self.parameters if "cardinality" in text else await super().rows(query, params)

    def told(self, name: str) -> Any:
        return next(params for asked, params in self.asked if asked == name)


def row(text: str, queryid: Any = 1, ms: float = 1.0, kind: Any = "select") -> dict[str, Any]:
    return {"queryid": queryid, "query": text, "kind": kind, "total_exec_time": ms, "calls": 3}


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(planner: Any) -> Any:
        @asynccontextmanager
        async def session(*_: Any) -> Any:
            if isinstance(planner, BaseException):
                raise planner
            yield planner

        monkeypatch.setattr(plan_shapes, "planning_session", session)
        return planner

    return put


async def shapes(*rows: dict[str, Any], plan: Any = PLAN) -> Any:
    return await read_shapes(None, Settings(), plan, rows)  # type: ignore[arg-type]


async def one(planner: Planner, text: str) -> Any:
    found = await plan_shapes._one(planner, text, ["public"])  # type: ignore[arg-type]
    assert set(found) <= {"why", "shapes", "parameters"}
    return found


async def test_the_statements_that_cost_most_are_planned_on_the_path_of_the_login(at: Any) -> None:
    planner = at(Planner())
    rows = [row(f"select {n}", n, float(n)) for n in range(100)]
    told = await shapes(*rows, row("select 7", 99, 500.0), row("select 8", None, 900.0), plan=replace(PLAN, schema="shop"))
    assert list(told["plans"]) == [str(n) for n in range(99, 99 - MAX_STATEMENTS, -1)]
    assert planner.sent[0] == "explain (format json) SELECT 7", "the costliest of those that share an id"
    assert planner.paths[0] == ["pg_catalog", "alice", "public", "shop"]
    assert told["why"] == ""
    at(ConnectError("the server is gone\nfor good"))
    assert await shapes(row("select 1")) == {"plans": {}, "why": "the server is gone for good"}


async def test_planning_has_a_budget(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at(Planner())
    clock = iter([0.0, 0.1, 5.0, 5.001, 6.0])
    monkeypatch.setattr(plan_shapes, "BUDGET_S", 5.0)
    monkeypatch.setattr(plan_shapes, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = (await shapes(*[row("select 1", n, 9.0 - n) for n in range(4)]))["plans"]
    assert ["shapes" in plan for plan in found.values()] == [True, True, False, False]
    assert "longer than 5 s in all" in found["3"]["why"]


@pytest.mark.parametrize("kind", ["update", "insert", "delete", None])
async def test_what_writes_is_not_planned(at: Any, kind: Any) -> None:
    planner = at(Planner())
    assert "it writes" in (await shapes(row("select 1", kind=kind)))["plans"]["1"]["why"]
    assert planner.sent == []


async def test_what_may_run_code_of_others_is_not_planned() -> None:
    for planner, text, why in (
        (Planner(others={"what": "function spy"}), ONE, "run code of others (function spy)"),
        (Planner(others={"what": "function spy"}), "select 1", "run code of others (function spy)"),
        (Planner(), "select from where", "parser says"),
    ):
        assert why in (await one(planner, text))["why"]
        assert planner.sent == []


async def test_every_name_of_a_statement_is_asked_about() -> None:
    planner = Planner()
    text = (
        "select f(a.v), app.g(1), t.*, '1'::app.small, '1'::int from app.a as t join b on t.x operator(ext.<+>) b.y"
        " where z between 1 and 2 and q || 'x' = 'y'"
    )
    await one(planner, text)
    asked = planner.told("code_of_others")
    assert {"f", "g", "v", "x", "y", "z", "q"} <= set(asked["functions"])  # a column may be a function of the row
    assert {"<+>", "||", "=", "<", "<=", ">", ">=", "<>", "~~"} <= set(asked["operators"])
    assert {"small", "int4"} <= set(asked["types"])
    assert asked["relations"] == ["a", "b"]
    assert asked["schemas"] == ["app", "ext", "pg_catalog", "public"]


@pytest.mark.parametrize(
    ("text", "version", "sent"),
    [
        ("select 1", 180000, ["explain (format json) SELECT 1"]), ("select 1", 150000, ["explain (format json) SELECT 1"]),
        (ONE, 160000, [f"explain (generic_plan, format json) {ONE}"]),
        (ONE, 159999, [f"prepare indexpilot_shape as {ONE}", "explain (format json) execute indexpilot_shape(null)",
                       "deallocate indexpilot_shape"]),
    ],
)  # fmt: skip
async def test_a_generic_plan_by_version(text: str, version: int, sent: list[str]) -> None:
    planner = Planner(version=version)
    planner.parameters = 1
    found = await one(planner, text)
    assert planner.sent == sent
    assert found == {"shapes": {"generic": shape(SCAN)}, "parameters": int("$1" in text)}


@pytest.mark.parametrize(("parameters", "call"), [(0, ""), (None, ""), (1, "(null)"), (3, "(null, null, null)")])
async def test_a_prepared_statement_gets_as_many_values_as_it_takes(parameters: int | None, call: str) -> None:
    planner = Planner(version=150000)
    planner.parameters = parameters
    await one(planner, ONE)
    assert planner.sent[1] == f"explain (format json) execute indexpilot_shape{call}"


async def test_a_prepared_statement_does_not_stay_behind() -> None:
    planner = Planner(lambda text: ServerError("no plan"), version=150000)
    assert (await one(planner, ONE))["why"] == "no plan"
    assert planner.sent[-1] == "deallocate indexpilot_shape"
    lost = Planner(lambda text: ConnectError("lost"), version=150000, closed=True)
    with pytest.raises(ConnectError):
        await one(lost, ONE)
    assert "deallocate indexpilot_shape" not in lost.sent


def values_in(planner: Planner) -> list[str]:
    """What stands after WHERE in each statement that was planned with values."""
    return [text.split(" WHERE ")[1] for text in planner.sent if "generic_plan" not in text or "'" in text]


@pytest.mark.parametrize(
    ("text", "columns", "sent"),
    [
        (ONE, [COLUMN], ["v = 'c'", "v = 'r'", "v = 'm'"]),
        (ONE, [COLUMN | {"middle": None}], ["v = 'c'", "v = 'r'"]),  # a middle one where there is none: the common one
        (ONE, [COLUMN | {"common": None, "rare": None}], ["v = 'm'"]), (ONE, [COLUMN | {"column": "other"}], []),
        (ONE, [COLUMN | {"common": "", "rare": ""}], ["v = ''", "v = 'm'"]),  # a text that is empty is a value
        (ONE, [COLUMN | {"common": None, "rare": None, "middle": None}], []), (ONE, [], []),
        (TWO, [COLUMN, COLUMN | {"column": "w"}], [f"v = '{x}' AND w = '{x}'" for x in "crm"]),
    ],
)  # fmt: skip
async def test_values_of_the_statistics_are_planned_too(text: str, columns: list[Any], sent: list[str]) -> None:
    planner = Planner(columns=columns)
    found = await one(planner, text)
    assert values_in(planner) == sent
    assert len(found["shapes"]) == 1 + len(sent)
    assert not any("generic_plan" in text for text in planner.sent[1:])
    assert not any(value in str(found) for value in ("'c'", "'r'", "'m'")), "no value is kept"
    assert planner.told("stats_points") == {"tables": ["orders"], "schemas": ["public"]}


async def test_a_parameter_that_is_left_makes_it_a_generic_plan_still() -> None:
    planner = Planner(columns=[COLUMN])
    await one(planner, TWO)
    assert len(planner.sent) == 4
    assert all("generic_plan" in text for text in planner.sent)


async def test_no_statistics_are_read_for_a_statement_without_parameters() -> None:
    planner = Planner(columns=[COLUMN])
    await one(planner, "select * from orders where v = 1")
    assert "stats_points" not in [name for name, _ in planner.asked]


@pytest.mark.parametrize(
    ("error", "closed", "why"),
    [(PrivilegeError("x"), False, HIDDEN), (ServerError("no\ntable"), False, "no table"), (ServerError("gone"), True, None)],
)
async def test_what_the_server_refuses_to_plan(error: Exception, closed: bool, why: str | None) -> None:
    planner = Planner(lambda text: error, closed=closed)
    if why is None:
        with pytest.raises(ServerError, match="gone"):
            await one(planner, ONE)
    else:
        assert await one(planner, ONE) == {"why": why}


async def test_a_value_that_does_not_fit_is_left_out_and_a_lost_session_ends_it() -> None:
    def plans(text: str) -> Any:
        if "'r'" in text:
            planner.closed = lost
            return ServerError("not a number")
        return SCAN

    for lost in (False, True):
        planner = Planner(plans, columns=[COLUMN])
        if lost:
            with pytest.raises(ServerError):
                await one(planner, ONE)
        else:
            assert len((await one(planner, ONE))["shapes"]) == 3


async def plans(planner: Planner, text: str) -> Any:
    return await read_plans(planner, text)  # type: ignore[arg-type]


async def test_plans_to_look_at_are_named_by_what_was_planned(at: Any) -> None:
    planner = at(Planner(columns=[COLUMN]))
    found, why = await plan_shapes.plans_of(None, Settings(), ONE)  # type: ignore[arg-type]
    assert why == ""
    assert [name for name, _ in found] == ["generic plan: for any values", "$1 = c", "$1 = r", "$1 = m"]
    assert ["generic_plan" in text for text in planner.sent] == [True, False, False, False]
    assert planner.paths == [["pg_catalog", "alice", "public"]]
    planner = Planner(columns=[COLUMN])
    assert await plans(planner, "select 1") == ((("its plan", SCAN),), "")
    assert planner.sent == ["explain (format json) SELECT 1"]
    assert "stats_points" not in [name for name, _ in planner.asked]
    planner = Planner(columns=[COLUMN])
    await plans(planner, TWO)
    assert all("generic_plan" in text for text in planner.sent)


@pytest.mark.parametrize(
    ("planner", "text", "why"),
    [
        (Planner(), "select from where", "parser says"), (Planner(), "update orders set v = 1", "only statements that read"),
        (Planner(others={"what": "type t"}), ONE, "code of others (type t)"),
        (Planner(lambda text: PrivilegeError("x")), ONE, HIDDEN), (Planner(lambda text: ServerError("a\nb")), ONE, "a b"),
    ],
)  # fmt: skip
async def test_why_there_is_no_plan_to_look_at(planner: Planner, text: str, why: str) -> None:
    found, told = await plans(planner, text)
    assert found == ()
    assert why in told


async def test_plans_that_were_read_before_an_error_are_shown() -> None:
    planner = Planner(lambda text: ServerError("not a number") if "'r'" in text else SCAN, columns=[COLUMN])
    found, why = await plans(planner, ONE)
    assert ([name for name, _ in found], why) == (["generic plan: for any values", "$1 = c"], "not a number")
    planner = Planner(lambda text: ServerError("gone"), closed=True)
    with pytest.raises(ServerError):
        await plans(planner, ONE)


KNOWN = {"shapes": {"generic": "a"}, "parameters": 0}


@pytest.mark.parametrize(
    ("start", "observed", "found"),
    [
        ({"1": {"why": HIDDEN}}, {"1": {"why": HIDDEN}}, True), ({"1": {"why": HIDDEN}}, {"1": KNOWN}, False),
        ({"1": {"why": HIDDEN}, "2": {"why": "it writes"}}, {}, True), ({"1": {"why": "it writes"}}, {}, False),
        ({}, {}, False), (None, {"1": {"why": HIDDEN}}, True), ({"1": {"why": HIDDEN}, "2": KNOWN}, {}, False),
    ],
)  # fmt: skip
def test_plans_are_hidden_where_none_could_be_read_for_want_of_rights(start: Any, observed: Any, found: bool) -> None:
    sides = {"start": start, "observed": observed}
    stats = {k: PhaseStats(k, NOW, None, (), {"plans": v}) for k, v in sides.items() if v is not None}
    assert hidden(stats) is found


def test_sides_without_a_plan_are_not_compared() -> None:
    for before, after, why in ((None, KNOWN, "was not read"), (KNOWN, None, "was not read"), (KNOWN, {"why": "w"}, "w"),
                               ({"why": "w"}, KNOWN, "w"), (KNOWN | {"shapes": {}}, KNOWN, "is not known")):  # fmt: skip
        verdict, told = compare(before, after)
        assert verdict == plan_shapes.NOT_COMPARED
        assert why in told
    assert compare(KNOWN, KNOWN) == (plan_shapes.UNCHANGED, "")


async def test_no_login_to_plan_as_sends_the_question_to_the_shadow(at: Any) -> None:
    at(PrivilegeError(f"{NO_PLANNER}: alice is a superuser", remedy="name one"))
    told = await shapes(row("select 1"))
    assert told == {"plans": {}, "why": f"{NO_PLANNER}: alice is a superuser"}
    found, why = await plan_shapes.plans_of(None, Settings(), ONE)  # type: ignore[arg-type]
    assert found == ()
    assert "alice is a superuser; name one" in why
    context = {"plans": {}, "plans_why": told["why"]}
    assert hidden({"start": PhaseStats("start", NOW, None, (), context)})
    assert not hidden({"start": PhaseStats("start", NOW, None, (), {**context, "plans_why": "switched off"})})


async def test_what_is_planned_is_qualified(at: Any) -> None:
    planner = Planner()
    planner.homes = [{"kind": "relation", "name": "orders", "schema": "shop"}]
    await one(planner, ONE)
    assert planner.sent == ["explain (generic_plan, format json) SELECT * FROM shop.orders WHERE v = $1"]
