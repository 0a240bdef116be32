"""Extensions that are used where they are and never needed: on Debian's 15 with pg_stat_kcache, pg_wait_sampling and
pg_qualstats, and on servers that lack one of them or refuse it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.observe.optional import reader as optional_reader
from indexpilot_tui.engine.observe.optional.model import Extras, Kernel, Waits
from indexpilot_tui.engine.observe.optional.reader import PACKAGE, OptionalReader
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.advise.seen import statements_of
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.quals import read_quals, sets_of
from indexpilot_tui.engine.whatif.read import Reader
from indexpilot_tui.engine.whatif.statements import parse
from indexpilot_tui.engine.whatif.workload import read_statements
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.engine.observe_room import SETTINGS, Place, make_place, own_cluster
from tests.servers import OPTIONAL_15, require_optional, start_tls_server

LIBRARIES = "pg_stat_statements,pg_stat_kcache,pg_wait_sampling,pg_qualstats"


@pytest.fixture(scope="module")
def full_server() -> Iterator[LocalCluster]:
    """All three are loaded; every statement is sampled."""
    require_optional()
    with own_cluster(
        "15", "optional", **{"shared_preload_libraries": LIBRARIES, "pg_qualstats.sample_rate": "1"}
    ) as cluster:
        yield cluster


@pytest.fixture
async def place(full_server: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(optional_reader, "APART_S", 0.0)
    async with make_place(full_server) as made:
        await made.run('create schema "odd; schema"', *(f'create extension {e} schema "odd; schema"' for e in OPTIONAL_15))
        yield made


async def queryid_of(place: Place, like: str) -> int:
    cursor = await place.admin.execute(
        "select queryid from pg_stat_statements where query like %s and query not like '%%pg_stat_statements%%'", (like,)
    )
    row = await cursor.fetchone()
    assert row
    return int(row[0])


async def test_kernel_and_waits_of_a_statement(place: Place) -> None:
    user = await place.role("mon", "pg_monitor")
    await place.run(f'grant usage on schema "odd; schema" to {user}')
    busy = "select sum(sqrt(i)) from generate_series(1, 400000) i"
    sleepy = "select pg_sleep(0.15)"
    await place.run(busy, sleepy)
    working, sleeping = await queryid_of(place, "select sum(sqrt%"), await queryid_of(place, "select pg_sleep%")
    reader = OptionalReader()
    async with place.session(user) as session:
        first = await reader.read(session, working)
        assert first.missing == ()
        assert first.kernel is None  # one reading is no interval
        assert first.kernel_since is not None
        await reader.read(session, sleeping)
        await place.run(*[busy] * 8, *[sleepy] * 3)
        await asyncio.sleep(0.1)
        second, slept = await reader.read(session, working), await reader.read(session, sleeping)
        nothing = await reader.read(session, 4711)
    assert second.kernel is not None
    assert second.kernel_since is not None
    assert second.seconds > 0
    # eight runs of some tens of ms each, against one before
    assert second.kernel.user_s + second.kernel.system_s > 4 * (first.kernel_since.user_s + first.kernel_since.system_s) > 0
    assert second.kernel_since.user_s >= second.kernel.user_s
    assert slept.waits is not None
    assert slept.waits.samples[0][0] == "Timeout:PgSleep"
    assert slept.waits.waited_s is not None
    assert 0.25 < slept.waits.waited_s < 1.0  # 0.45 s, sampled every 10 ms
    assert slept.kernel is not None
    assert slept.kernel.user_s < 0.1
    assert nothing.kernel_since is None
    assert nothing.missing == ("pg_stat_kcache: it has counted nothing of this statement",)


async def test_the_waits_of_the_server(place: Place) -> None:
    reader = OptionalReader()
    async with place.session() as session:
        await reader.read(session, None)
        await place.run("select pg_sleep(0.3)")
        seen = await reader.read(session, None)
    assert seen.waits is not None
    assert dict(seen.waits.samples)["Timeout:PgSleep"] >= 15
    assert not [name for name, _ in seen.waits.samples if name.startswith("Activity")]
    assert seen.kernel_since is None
    assert seen.missing == ()


async def test_missing_and_refused_are_named(full_server: LocalCluster, cluster18: LocalCluster) -> None:
    async with make_place(full_server) as place:
        await place.run("create schema hidden", "create extension pg_stat_kcache schema hidden")
        user = await place.role("mon", "pg_monitor")
        async with place.session(user) as session:
            seen = await OptionalReader().read(session, 1)
        kcache, waits, quals = seen.missing
        assert (
            kcache
            == f'pg_stat_kcache lies in a schema that this role may not use: GRANT USAGE ON SCHEMA "hidden" TO "{user}"'
        )
        assert waits.startswith("pg_wait_sampling is not in this database")
        assert quals.startswith("pg_qualstats is not in this database")
        assert (seen.kernel_since, seen.waits_since) == (None, None)
    async with make_place(cluster18) as place, place.session() as session:
        seen = await OptionalReader().read(session, None)
        assert [text.split()[0] for text in seen.missing] == ["pg_wait_sampling"]


async def test_a_library_that_is_not_loaded_any_more_is_a_refusal_by_name() -> None:
    require_optional()
    server = start_tls_server(settings={"shared_preload_libraries": LIBRARIES})
    try:
        with server.connect() as conn:
            for name in OPTIONAL_15:  # the first needs pg_stat_statements
                conn.execute(f"create extension {name} cascade".encode())
        server.stop()
        with (server.root / "data" / "postgresql.conf").open("a") as conf:
            conf.write("shared_preload_libraries = 'pg_stat_statements'\n")
        server.start_again()
        target = Target(name="test", environment="development", dsn=server.conninfo("admin"))
        session = await connect(target, Purpose.MONITOR, Settings())
        try:
            seen = await OptionalReader().read(session, 1)
        finally:
            await session.close()
    finally:
        server.remove()
    assert [text.partition(":")[0] for text in seen.missing] == ["pg_stat_kcache", "pg_wait_sampling"]
    assert all("shared_preload_libraries" in text for text in seen.missing)
    assert (seen.kernel_since, seen.waits_since) == (None, None)


async def test_the_facade_and_what_was_just_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional_reader, "APART_S", 60.0)
    engine = await Engine.open(place.target(), SETTINGS)
    try:
        first = await engine.extras(None)
        sent = len(engine.sent)
        assert await engine.extras(None) is first
        assert len(engine.sent) == sent
    finally:
        await engine.close()


async def test_each_version_of_a_question_names_the_columns_of_its_extension(place: Place) -> None:
    async with place.session() as session:
        for name, variant in (("kcache", 20_201), ("statement_waits", 10_100), ("server_waits", 10_100)):
            text = sql.SQL(load(PACKAGE, name, variant)).format(schema=sql.Identifier("odd; schema"))
            assert await session.row(text, {"queryid": 1} if name != "server_waits" else None)
    async with make_place(place.cluster) as older:
        await older.run("create extension pg_stat_kcache version '2.1.3'")
        async with older.session() as session:
            seen = await OptionalReader().read(session, 1)
            assert seen.missing[0].startswith("pg_wait_sampling")
            assert "pg_stat_kcache: it has counted nothing of this statement" in seen.missing


def test_growth_is_not_told_over_a_reset() -> None:
    assert Kernel(2, 1, 5, 1).minus(Kernel(1, 1, 1, 0)) == Kernel(1, 0, 4, 1)
    assert Kernel(1, 1, 5, 1).minus(Kernel(2, 1, 1, 0)) is None
    assert Waits((("a", 5), ("b", 2)), 10.0).minus(Waits((("a", 1),), 10.0)) == Waits((("a", 4), ("b", 2)), 10.0)
    assert Waits((("a", 5),), 10.0).minus(Waits((("a", 1), ("b", 1)), 10.0)) is None
    assert Waits((("a", 1),), 10.0).minus(Waits((("a", 5),), 10.0)) is None
    assert Extras().waits is None


# --- pg_qualstats: constants for forecasts ---------------------------------------------------------------------------

SECRET = "tenant-4f1d"


@pytest.fixture
async def shop(place: Place) -> Place:
    await place.run(
        "create table jobs (id int primary key, tenant text not null, status text not null, n int)",
        f"insert into jobs select g, case when g % 5000 = 0 then '{SECRET}' else 'big' end, 'done', g from generate_series(1, 60000) g",
        "analyze jobs",
    )  # fmt: skip
    app = await place.connection()
    app.prepare_threshold = 0
    for _ in range(4):  # what pg_stat_activity shows of a prepared statement has no constants
        await app.execute("select * from jobs where tenant = %s and n > %s", (SECRET, 17))
    await app.execute("select * from jobs where 30 < n and status = 'done'")
    await app.close()
    return place


async def test_constants_of_prepared_statements_are_points(shop: Place) -> None:
    async with shop.session() as session:
        reader = Reader(session)
        parsed = [parse(s) for s in await read_statements(reader)]
        found, said = await read_quals(reader, parsed)
        assert said == ""
        by_text = {p.statement.sql: found.get(p.statement.key) for p in parsed}
        assert by_text["select * from jobs where tenant = $1 and n > $2"] == [{1: SECRET, 2: "17"}]
        assert by_text["select * from jobs where $1 < n and status = $2"] == [{1: "30", 2: "done"}]


async def test_a_forecast_has_them_and_shows_no_value(shop: Place) -> None:
    target = shop.target()
    engine = await Engine.open(target, SETTINGS)
    try:
        forecast = await engine.simulate("CREATE INDEX ON jobs (tenant)")
    finally:
        await engine.close()
    query = next(q for q in forecast.queries if "tenant = $1" in q.query)
    (point,) = [p for p in query.points if p.kind == "observed"]
    assert point.label == "observed: tenant: as pg_qualstats saw it, n: as pg_qualstats saw it"
    assert point.cost_after < point.cost_before
    assert SECRET not in json.dumps([asdict(p) for p in query.points if p.kind == "observed"])
    assert SECRET not in json.dumps([s.text + s.error for s in engine.sent])


async def test_without_it_or_refused_a_forecast_goes_on(full_server: LocalCluster) -> None:
    parsed = [parse(Statement("123", "select 1 from jobs where a = $1", 1.0))]
    async with make_place(full_server) as place:
        async with place.session() as session:
            assert await read_quals(Reader(session), parsed) == ({}, "")
        await place.run("create schema hidden", "create extension pg_qualstats schema hidden")
        async with place.session(await place.role("mon", "pg_monitor")) as session:
            found, said = await read_quals(Reader(session), parsed)
            assert found == {}
            assert said.startswith("what pg_qualstats saw is not known: ")
            assert "hidden" in said


async def test_what_functions_search_for_is_advised_though_the_workload_has_no_text_of_it(shop: Place) -> None:
    find = "select count(*) from public.jobs where n = $1 and status = 'done'"
    await shop.run(
        f"create function find(int) returns bigint language sql volatile as $f${find}$f$",
        "create table small (a int)", "insert into small select generate_series(1, 50)",
        "create function little() returns bigint language sql volatile as 'select count(*) from public.small where a = 3'",
        "analyze small", *["select find(41)", "select little()"] * 5,
    )  # fmt: skip
    engine = await Engine.open(shop.target(), SETTINGS)
    try:
        advice = await engine.advise()
    finally:
        await engine.close()
    (query,) = [q for q in advice.queries if q.queryid.startswith("pg_qualstats")]
    assert query.query == 'SELECT * FROM "public"."jobs" WHERE "n" = $1 AND "status" = $2'
    assert query.calls == 5
    assert query.indexes
    assert any('("n"' in advice.indexes[number].ddl for number in query.indexes)
    assert query.cost_after < 0.1 * query.cost_before
    assert (
        "1 conditions come from pg_qualstats: their statements are not in the workload (in functions, say)" in advice.notes
    )
    assert "41" not in json.dumps([q.query for q in advice.queries])


def condition(column: str, operator: str = "=", **more: Any) -> dict[str, Any]:
    return {
        "schema": "public", "table": 'o"dd', "queryid": 5, "together": 9, "column": column, "operator": operator, "tested": 1e6,
        "filtered": 9.9e5, "times": 10.0, "rate": 0.01,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([condition("b"), condition("a", ">")], 'SELECT * FROM "public"."o""dd" WHERE "a" > $1 AND "b" = $2'),
        ([condition('x"; drop')], 'SELECT * FROM "public"."o""dd" WHERE "x""; drop" = $1'),
        ([condition("a", filtered=4e5)], ""),  # most of the rows were wanted
        ([condition("a", times=1e4)], ""),  # few rows an execution
        ([condition("a"), condition("b", "~~")], ""),
        ([condition("a", tested=0.0)], ""),
    ],
    ids=range(6),
)
def test_conditions_become_statements(rows: list[dict[str, Any]], text: str) -> None:
    found = statements_of(rows)
    assert [s.sql for s in found] == ([text] if text else [])
    assert [s.calls for s in found] == ([1000.0] if text else [])


def row(value: str, column: str = "a", operator: str = "=", together: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "queryid": 7, "together": together, "column": column, "operator": operator, "in_index": False, "value": value, "times": 3,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rows", "constants"),
    [
        ("a = $1", [row("5::integer")], [{1: "5"}]),
        ("a = $1", [row("'x''y'::text")], [{1: "x'y"}]),
        ("a = $1", [row("'-3'::integer")], [{1: "-3"}]),
        ("$1 < a", [row("5::integer", operator="<")], [{1: "5"}]),
        ("$1 < a", [row("5::integer", operator=">")], []),
        ("$1 < a", [row("5::integer", operator=">", in_index=True)], [{1: "5"}]),
        ("$1 < a and a < $2", [row("5", operator="<"), row("9", operator="<")], []),
        (
            "$1 < a and a < $2",
            [row("5", operator=">", in_index=True), row("9", operator="<", in_index=True)],
            [{1: "5", 2: "9"}],
        ),
        ("a between $1 and $2", [row("1", operator=">="), row("9", operator="<=")], [{1: "1", 2: "9"}]),
        ("a = any($1)", [row("'{1,2}'::integer[]")], [{1: "{1,2}"}]),
        ("a = $1 and b = $2", [row("1"), row("'y'::text", column="b"), row("2", together=2)], [{1: "1", 2: "y"}, {1: "2"}]),
        ("a = $1", [row("'cut off at eighty by")], []),  # truncated
        ("a = $1", [row("null::text")], []),
        ("a = $1", [row("1); drop table t; select (1")], []),
        ("a = $1", [row("(select 1)")], []),
        ("a = $1 or a = $2", [row("1"), row("2")], []),  # whose is which cannot be told
        ("a in ($1, $2)", [row("'{1,2}'::integer[]")], []),
        ("b = $1", [row("1")], []),
        ("a = $1", [row(str(n), together=n) for n in range(9)], [{1: "0"}, {1: "1"}, {1: "2"}]),
    ],
    ids=range(19),
)
def test_constants_are_given_to_the_parameter_that_they_belong_to(
    text: str, rows: list[dict[str, Any]], constants: list[dict[int, str]]
) -> None:
    parsed = parse(Statement("7", f"select * from t where {text}", 1.0))
    assert sets_of(rows, {7: parsed}) == ({7: constants} if constants else {})


async def test_statements_of_a_file_are_not_asked_for(cluster18: LocalCluster) -> None:
    parsed = [parse(Statement("q1", "select * from t where a = $1", 1.0)), parse(Statement("2", "select 1", 1.0))]
    async with make_place(cluster18) as place, place.session() as session:
        reader = Reader(session)
        assert await read_quals(reader, [replace(p) for p in parsed]) == ({}, "")
        assert reader.statements == 0


def test_the_server_says_what_it_is_asked(full_server: LocalCluster) -> None:
    with psycopg.connect(full_server.conninfo()) as conn:
        loaded = conn.execute("show shared_preload_libraries").fetchone()
    assert loaded == (LIBRARIES,)
