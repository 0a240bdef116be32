"""What is counted and estimated before a change: statements, duplicates, room; no server is needed for that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import duplicates, estimate, stats
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.whatif.sizes import KeyColumn
from indexpilot_tui.errors import ServerError
from tests.unit.bench_of_changes import DROP, REBUILD
from tests.unit.desk import NOW, PLAN, Desk

ROOM = "indexpilot_tui.engine.changes"


def failure(sqlstate: str | None, of: type[Exception] = ServerError) -> Any:
    error = of("m")
    if sqlstate is not None:
        error.__cause__ = psycopg.errors.lookup(sqlstate)("m")
    return error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select * from orders", "select"), ("select * from public.orders", "select"), ("select * from x.orders", None),
        ("select * from others", None), ("with d as (delete from orders returning 1) select * from d", "delete"),
        ("insert into orders select 1", "insert"), ("update x set a = (select 1 from orders)", "update"),
        ("vacuum orders", None), ("select * from", None), ("", None), ("delete from orders", "delete"),
    ],
)  # fmt: skip
def test_which_statements_touch_a_table(text: str, kind: str | None) -> None:
    assert stats.kind_of(text, "public", "orders") == kind
    assert stats.touches(text, "public", "orders") is (kind is not None)


async def test_statements_that_are_hidden_are_kept_and_counted() -> None:
    texts = {1: "select * from orders", 2: "select 1", None: "<insufficient privilege>"}
    rows = [{"queryid": queryid, "query": text} for queryid, text in texts.items()]
    answers = iter(("public", rows, NOW, {"updates": 1, "hot": 1}, NOW))
    desk: Any = Desk({"other": lambda _: next(answers)}, package=ROOM)
    found = await stats.read_table_stats(desk, "public", "orders", 5)
    assert [row["queryid"] for row in found.rows] == [1, None]
    assert (found.table, found.rows[0]["kind"], found.rows[1]["kind"]) == ({"updates": 1, "hot": 1}, "select", None)
    answers = iter(("public", rows, NOW, NOW))
    assert (await stats.read_table_stats(desk, "public", "orders")).table == {}  # not asked for
    with pytest.raises(ServerError, match="not installed"):
        await stats.read_table_stats(Desk({"other": None}), "public", "orders")  # type: ignore[arg-type]


UNIQUE = replace(PLAN, unique=True, ddl="create unique index i on public.orders (lower(a), b desc) where c > 1")


def test_what_is_counted_before_a_unique_build() -> None:
    assert [duplicates.concerns(p) for p in (UNIQUE, PLAN, replace(UNIQUE, kind="drop"))] == [True, False, False]
    counted = duplicates.Duplicates
    assert "not known: x" in counted(None, None, "x").sentence
    assert counted(0, 0).sentence == "no duplicates"
    assert "4 rows share 2 values" in counted(2, 4).sentence


async def test_only_immutable_functions_are_asked_for_duplicates() -> None:
    for immutable, asked in (({"immutable": True}, True), ({"immutable": False}, False), (None, False)):
        desk: Any = Desk({"function_immutable": immutable}, package=ROOM)
        query = await duplicates.counting(desk, UNIQUE)
        assert isinstance(query, str) is not asked
        assert desk.asked[0][1] == {"schema": "pg_catalog", "name": "lower"}
    for ddl, where in (
        ("create unique index i on t (a)", " where (a) is not null"), ("create unique index i on t (a) nulls not distinct", ""),
        ("create unique index i on t (a) nulls not distinct where b > 1", " where (b > 1)"),
        ("create unique index i on t (a) where b > 1", " where (b > 1) and (a) is not null"),
    ):  # fmt: skip
        query = await duplicates.counting(Desk({}), replace(UNIQUE, ddl=ddl))  # type: ignore[arg-type]
        text = query.as_string(None)  # type: ignore[union-attr]
        assert f'from "public"."orders"{where} group by' in text
    own: Any = Desk({"function_immutable": {"immutable": True}}, package=ROOM)
    await duplicates.counting(own, replace(UNIQUE, ddl="create unique index i on t (app.f(a))"))
    assert own.asked[0][1] == {"schema": "app", "name": "f"}


TABLE = {"tables": 1, "rows": 1000.0, "table_bytes": 400_000, "heap_bytes": 300_000, "guessed": False, "reader": False,
         "maintenance_work_mem": 64e6, "default_tablespace": ""}  # fmt: skip
COLUMN = {"name": "customer_id", "length": 4, "avg_width": 4, "align": "i"}


async def estimated(table: dict[str, Any] | None = None, columns: Any = None, plan: Plan = PLAN, **more: Any) -> Any:
    answers = {"build_table": TABLE | (table or {}), "build_columns": columns or [COLUMN]} | more
    return await estimate.build_estimate(Desk(answers, package=ROOM), plan)  # type: ignore[arg-type]


async def test_an_estimate_is_an_upper_bound() -> None:
    small = await estimated()
    assert (small.temp_bytes, small.basis, small.tablespace) == (0, "1,000 rows", "")
    assert "at most: never analyzed" in (await estimated({"guessed": True})).basis
    text = COLUMN | {"length": -1, "avg_width": 30}
    wide, hidden = await estimated(columns=[text]), await estimated(columns=[text | {"avg_width": None}])
    assert small.index_bytes < wide.index_bytes < hidden.index_bytes
    assert "widths of customer_id not known" in hidden.basis
    assert "not known" not in wide.basis
    told = await estimated({"reader": True}, [text | {"avg_width": None}],
                           build_widths=[{"name": "customer_id", "avg_width": 30}])  # fmt: skip
    assert told.index_bytes == wide.index_bytes  # from the reader of statistics
    assert (await estimated({"reader": True}, [text])).index_bytes == wide.index_bytes  # who is not asked for what is known
    for rows, memory, temp in ((100_000, 1_200_000, False), (100_000, 1_199_999, True)):
        gist = replace(PLAN, method="brin", ddl=PLAN.ddl.replace("btree", "brin"))
        found = await estimated({"rows": float(rows), "maintenance_work_mem": memory}, plan=gist)
        assert found.temp_bytes == (1_200_000 if temp else 0)  # what the second scan sorts
    with pytest.raises(ServerError, match="no storage"):
        await estimated({"tables": 0})
    with pytest.raises(ServerError, match="no column"):
        await estimated(columns=[COLUMN | {"name": "other"}])
    for free in (DROP, replace(PLAN, kind="drop")):
        assert (await estimated(plan=free)).seconds is None


async def test_an_estimate_of_a_rebuild_and_of_unknown_methods() -> None:
    again = await estimated(plan=REBUILD, build_again={"index_bytes": 81920, "tablespace": "fast"})
    assert (again.index_bytes, again.tablespace) == (81920, "fast")
    with pytest.raises(ServerError, match="is gone"):
        await estimated(plan=REBUILD, build_again=None)
    vector = replace(PLAN, method="hnsw", ddl=PLAN.ddl.replace("btree", "hnsw"))
    assert (await estimated(plan=vector)).index_bytes == 800_000
    gin = replace(PLAN, method="gin", ddl=PLAN.ddl.replace("btree", "gin"))
    assert (await estimated(columns=[COLUMN | {"length": -1, "avg_width": 93}], plan=gin)).index_bytes == 1000 * (
        100 * 4 + 8
    )
    half = replace(PLAN, ddl=f"{PLAN.ddl} WITH (fillfactor = 50)")
    assert (await estimated({"rows": 1e5}, plan=half)).index_bytes > 1.6 * (await estimated({"rows": 1e5})).index_bytes
    both = replace(PLAN, ddl=PLAN.ddl.replace("(customer_id)", "((customer_id + other))"))
    other = COLUMN | {"name": "other", "length": 8, "align": "d"}
    assert (await estimated({"rows": 1e5}, [COLUMN, other], both)).index_bytes > (await estimated({"rows": 1e5})).index_bytes


@pytest.mark.parametrize(("letter", "align"), [("c", 1), ("s", 2), ("i", 4), ("d", 8)])
def test_a_fixed_width_has_its_alignment(letter: str, align: int) -> None:
    found = estimate._plain(COLUMN | {"length": align, "align": letter}, 99.0, set())
    assert found == KeyColumn(float(align), False, align, 0.0, 0.0)
    hidden: set[str] = set()
    assert estimate._plain(COLUMN | {"length": -1, "avg_width": None}, 99.0, hidden).width == 99.0
    assert hidden == {"customer_id"}


async def test_a_row_holds_no_more_than_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[Any] = []

    def measured(shape: Any) -> Any:
        shapes.append(shape)
        return SimpleNamespace(size_bytes=8192)

    monkeypatch.setattr(estimate, "estimate", measured)
    await estimated(columns=[COLUMN | {"length": -1, "avg_width": None}])
    assert shapes[0].keys[0].width == 400 - 28  # a row's bytes without its header


async def test_where_an_index_goes_and_what_is_asked_of_a_rebuild() -> None:
    assert (await estimated({"default_tablespace": "slow"})).tablespace == "slow"
    elsewhere = replace(PLAN, ddl=f"{PLAN.ddl} TABLESPACE fast")
    assert (await estimated({"default_tablespace": "slow"}, plan=elsewhere)).tablespace == "fast"
    desk: Any = Desk({"build_table": TABLE, "build_again": {"index_bytes": 8192, "tablespace": ""}}, package=ROOM)
    await estimate.build_estimate(desk, REBUILD)
    assert dict(desk.asked)["build_again"] == {"oid": 7}


@pytest.mark.parametrize(("plan", "asked"), [(PLAN, 1), (DROP, 0)])
async def test_earlier_builds_are_asked_for_once_and_not_for_a_drop(plan: Plan, asked: int) -> None:
    calls = 0

    async def builds() -> list[Any]:
        nonlocal calls
        calls += 1
        return []

    desk: Any = Desk({"build_table": TABLE, "build_columns": [COLUMN]}, package=ROOM)
    ask = estimate.estimator(desk, plan, builds)
    assert await ask() is await ask()
    assert calls == asked
    assert (await estimate.estimator(desk, plan)()).index_bytes >= 0


async def test_no_value_and_no_comment_is_kept_with_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []

    async def read(*_: Any) -> Any:
        texts = ("select * from orders where id = 5 -- secret", "cut off")
        return stats.TableStats(NOW, None, tuple({"queryid": 1, "query": text} for text in texts), {"updates": 1})

    async def save(*args: Any) -> None:
        saved.append(args)

    async def shapes(rows: Any) -> Any:
        return {"plans": {"1": "x"}, "why": "w"}

    monkeypatch.setattr(stats, "read_table_stats", read)
    journal: Any = SimpleNamespace(save_stats=save)
    for given, context in ((None, {"table": {"updates": 1}}),
                           (shapes, {"table": {"updates": 1}, "plans": {"1": "x"}, "plans_why": "w"})):  # fmt: skip
        await stats.save_stats(journal, Desk({}), 1, 3, "start", PLAN, given)  # type: ignore[arg-type]
        assert saved[-1][-1] == context
        assert [row["query"] for row in saved[-1][-2]] == ["select * from orders where id = $1", stats.WITHHELD]
