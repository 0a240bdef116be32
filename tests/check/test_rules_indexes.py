"""The rules on indexes and the workload: planted troubles are found with a fix that works, and their absence is seen."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from indexpilot_tui.check.filters import filters_of
from indexpilot_tui.check.run import ShadowForecaster
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.settings.model import Settings
from tests.check.asking import OK, UNKNOWN, WARNING, ask
from tests.engine.observe_room import Place

TABLE = "create table t (id int primary key, a int, b int, c text)"
ROWS = "insert into t select g, g % 5, g, g::text from generate_series(1, 50000) g"


async def test_invalid_indexes(place: Place) -> None:
    await place.run(TABLE, ROWS)
    assert (await ask(place, "invalid_indexes")).status is OK
    with pytest.raises(psycopg.errors.UniqueViolation):
        await place.run("create unique index concurrently t_a on t (a)")
    found = await ask(place, "invalid_indexes")
    assert (found.status, found.fix) == (WARNING, 'DROP INDEX CONCURRENTLY "public"."t_a"')
    await place.run(found.fix)
    assert (await ask(place, "invalid_indexes")).status is OK


@pytest.mark.parametrize(
    ("rule", "first", "second", "gone"),
    [
        ("duplicate_indexes", "create index i1 on t (a)", "create index i2 on t (a)", "i2"),
        ("left_prefix_indexes", "create index i1 on t (a, b)", "create index i2 on t (a)", "i2"),
    ],
)
async def test_superfluous_indexes(place: Place, rule: str, first: str, second: str, gone: str) -> None:
    await place.run(TABLE, first)
    assert (await ask(place, rule)).status is OK
    await place.run(second)
    found = await ask(place, rule)
    assert (found.status, found.fix) == (WARNING, f'DROP INDEX CONCURRENTLY "public"."{gone}"')
    await place.run(found.fix)
    assert (await ask(place, rule)).status is OK


async def test_unused_indexes(place: Place) -> None:
    await place.run(TABLE, ROWS, "analyze t", "create index t_b on t (b)")
    found = await ask(place, "unused_indexes")
    assert (found.status, found.fix) == (WARNING, 'DROP INDEX CONCURRENTLY "public"."t_b"')
    young = await ask(place, "unused_indexes", settings=Settings())
    assert young.status is UNKNOWN  # fourteen days have not passed: not judged is not ok
    assert "too young" in young.summary
    await place.run("set enable_seqscan = off", "select * from t where b = 7", "select pg_stat_force_next_flush()")
    await place.run("select 1")
    assert (await ask(place, "unused_indexes")).status is OK


async def test_missing_fk_indexes(place: Place) -> None:
    await place.run(
        "create table parent (id int primary key)", "insert into parent select generate_series(0, 9)",
        'create table "Child" (id int, "Parent Id" int references parent)',
        'insert into "Child" select g, g % 10 from generate_series(1, 60000) g',
    )  # fmt: skip
    found = await ask(place, "missing_fk_indexes")
    assert found.status is WARNING
    assert found.fix == 'CREATE INDEX CONCURRENTLY "Child_Parent Id_idx" ON "public"."Child" ("Parent Id")'
    await place.run(found.fix)
    assert (await ask(place, "missing_fk_indexes")).status is OK


async def test_locked_tables_are_not_called_free_of_duplicates(place: Place) -> None:
    await place.run(TABLE, "create index i1 on t (a)", "create index i2 on t (a)")
    holder = await place.connection()
    await holder.execute("begin")
    await holder.execute("lock table t in access exclusive mode")
    found = await ask(place, "left_prefix_indexes")
    assert found.status is UNKNOWN
    await holder.execute("rollback")
    await holder.close()


async def test_hot_query_without_index(place: Place) -> None:
    await place.run(TABLE, ROWS, "analyze t", "select pg_stat_statements_reset()")
    for b in range(30):
        await place.run(f"select c from public.t where b = {b}")
    forecaster = ShadowForecaster()
    try:
        found = await ask(place, "hot_query_without_index", forecaster=forecaster)
        assert found.status is WARNING, found
        (fix,) = found.fix.splitlines()
        assert "CREATE INDEX CONCURRENTLY" in fix
        assert "(b" in fix
        evidence = found.evidence[0]
        assert evidence["cost_after"] < evidence["cost_before"] / 10
        assert evidence["calls"] == 30
        await place.run(fix)
        assert (await ask(place, "hot_query_without_index", forecaster=forecaster)).status is OK
    finally:
        await forecaster.close()


class Broken:
    """A shadow planner that cannot start."""

    async def candidates(self, session: Session, sql: str) -> list[str]:
        return ["CREATE INDEX ON public.t (b)"]

    async def simulate(self, session: Session, ddl: str, statements: Sequence[Statement]) -> Forecast:
        raise LocalServerError("no programs of PostgreSQL 18")


async def test_without_a_forecast_the_workload_is_not_called_well_indexed(place: Place) -> None:
    await place.run(TABLE, ROWS, "select pg_stat_statements_reset()")
    for b in range(20):
        await place.run(f"select c from t where b = {b}")
    found = await ask(place, "hot_query_without_index", forecaster=Broken())
    assert (found.status, "no programs" in found.summary) == (UNKNOWN, True)
    assert (await ask(place, "hot_query_without_index")).status is UNKNOWN


async def test_skewed_columns(place: Place) -> None:
    await place.run(
        "create schema shop",
        "create table shop.orders (id int, \"Status\" text, placed_at timestamptz)",
        "insert into shop.orders select g, case when g % 200 = 0 then 'pend''ing' else 'it''s done' end,"
        " now() - g * interval '1 s' from generate_series(1, 40000) g",
        "analyze shop.orders",
        "select pg_stat_statements_reset()",
    )  # fmt: skip
    assert (await ask(place, "skewed_columns")).status is OK  # nobody looks for it
    await place.run("select * from shop.orders o where o.\"Status\" = 'pend''ing' order by placed_at limit 5")
    found = await ask(place, "skewed_columns")
    assert found.status is WARNING, found
    assert "WHERE \"Status\" <> 'it''s done'" in found.fix
    assert '("Status", placed_at)' in found.fix
    assert found.evidence[0]["common_share"] == pytest.approx(0.995, abs=0.005)
    await place.run(found.fix)
    plan = await (
        await place.admin.execute(
            "explain select * from shop.orders where \"Status\" = 'pend''ing' order by placed_at limit 5"
        )
    ).fetchall()
    assert any("Index" in str(line) for line in plan)  # the planner proves the predicate
    assert (await ask(place, "skewed_columns")).status is OK


async def test_hidden_statistics_are_not_called_even(place: Place) -> None:
    await place.run(TABLE, ROWS, "analyze t")
    monitor = await place.role("mon", "pg_monitor")
    assert (await ask(place, "skewed_columns", user=monitor)).status is UNKNOWN


@pytest.mark.parametrize(
    ("sql", "equal", "order"),
    [
        ("select 1 from s.t x where x.a = $1", {("s", "t", "a")}, ()),
        ("select 1 from t where $1 = a order by b, c", {("", "t", "a")}, ("b", "c")),
        ("select 1 from t where a in (1, 2) order by b desc", {("", "t", "a")}, ()),
        ("select 1 from t where a = any($1)", {("", "t", "a")}, ()),
        ("update t set b = $1 where a = $2", {("", "t", "a")}, ()),
        ("select 1 from t join u on t.a = u.b", set(), ()),
        ("select 1 from t where a <> $1 and b > $2", set(), ()),
        ("select 1 from t, u where t.a = $1 and u.b = $2", {("", "t", "a"), ("", "u", "b")}, ()),
        ("this is not sql", set(), ()),
    ],
)
def test_filters(sql: str, equal: set[tuple[str, str, str]], order: tuple[str, ...]) -> None:
    found = filters_of(sql)
    assert (set(found.equal), found.order) == (equal, order)
