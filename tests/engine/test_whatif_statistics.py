"""Every kind of statistics reaches the shadow: estimates equal the server's own, on the embedded 18 and on Debian's 15,
each planned by its own major."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import PrivilegeError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.bench.tpch_server import DEBIAN_15
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = """
create extension citext;
create type mood as enum ('sad', 'ok', 'happy');
create domain percent as int check (value between 0 and 100);
create table rich (
  id int primary key, city text, zip text, country text, state mood, p percent, tags text[], nums int[], mail citext,
  body tsvector, seen timestamptz, amount numeric(12,2), span int4range, few bool, c char(4), b bytea, u uuid);
insert into rich
  select g, case when g % 7 = 0 then null else 'city' || g % 40 end, 'zip' || g % 40 + g % 2 * 40, 'c' || g % 5,
         (array['sad', 'ok', 'happy'])[1 + (g % 100 > 0)::int + (g % 10 > 0)::int]::mood, g % 101,
         array['t' || g % 50, 'u' || g % 7], array[g % 30, g % 11], 'User' || g % 900 || '@Example.org',
         to_tsvector('simple', 'w' || g % 60 || ' x' || g % 9), timestamptz '2024-01-01' + g % 700 * interval '1 h',
         g % 977, int4range(g % 500, g % 500 + 10), g % 3 = 0, 'k' || g % 30, int4send(g % 200),
         md5((g % 3000)::text)::uuid
    from generate_series(1, 40000) g;
create statistics rich_mcv (mcv) on city, country from rich;
create statistics rich_all on zip, country, p from rich;
create statistics rich_expr (mcv, ndistinct) on (lower(zip)), (p % 10), state from rich;
create statistics rich_one on (extract(day from seen at time zone 'UTC')) from rich;
create table family (id int, at date not null, kind text) partition by range (at);
create table family_a partition of family for values from ('2024-01-01') to ('2024-07-01');
create table family_b partition of family for values from ('2024-07-01') to ('2025-01-01');
insert into family select g, date '2024-01-01' + g % 366, 'kind' || g % 25 from generate_series(1, 30000) g;
create index on rich (lower(city));
"""
QUERIES = [
    "select * from rich where city = 'city7' and country = 'c2'",
    "select * from rich where city is null and country = 'c2'",
    "select * from rich where zip = 'zip12' and country = 'c2' and p = 20",
    "select zip, country, p, count(*) from rich group by 1, 2, 3",
    "select * from rich where lower(zip) = 'zip7' and p % 10 = 3 and state = 'happy'",
    "select lower(zip), state, count(*) from rich group by 1, 2",
    "select * from rich where extract(day from seen at time zone 'UTC') = 3",
    "select * from rich where lower(city) < 'city3'",
    "select * from rich where tags @> array['t7']", "select * from rich where tags && array['t7', 'u3']",
    "select * from rich where 7 = any(nums)", "select * from rich where nums <@ array[1, 2, 3, 7]",
    "select * from rich where mail = 'user7@EXAMPLE.org'", "select * from rich where mail < 'user3'",
    "select * from rich where body @@ to_tsquery('simple', 'w7')",
    "select * from rich where state = 'sad'", "select * from rich where p < 12", "select * from rich where p = 12",
    "select * from rich where seen between '2024-01-03' and '2024-01-09'", "select * from rich where amount > 800",
    "select * from rich where few", "select * from rich where c = 'k7'", "select * from rich where c >= 'k7'",
    "select * from rich where u < '50000000-0000-0000-0000-000000000000'", "select * from rich where b < int4send(50)",
    "select * from rich where city like 'city1%'", "select * from rich where city ~ '^city2'",
    "select * from rich a join rich b on a.city = b.zip", "select distinct city, zip from rich",
    "select * from family where kind = 'kind7' and at < '2024-03-01'", "select kind, count(*) from family group by 1",
    "select * from rich where span && int4range(5, 9)",
]  # fmt: skip


@dataclass
class Place:
    session: Session
    simulator: Simulator
    owner: psycopg.Connection[Any]
    version: int
    cluster: LocalCluster


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[18, 15])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == 15 and not DEBIAN_15.exists():
        pytest.skip("needs Debian's postgresql-15")
    bindir = DEBIAN_15 if request.param == 15 else None
    settings = {"autovacuum": "off", "timezone": "Asia/Tokyo"}
    async with await LocalCluster.start("stats", bindir=bindir, settings=settings) as own:
        name = f"rich_{secrets.token_hex(4)}"
        with psycopg.connect(own.conninfo(), autocommit=True) as admin:
            admin.execute(f"create database {name}".encode())
        with psycopg.connect(own.conninfo(name), autocommit=True) as owner:
            owner.execute(SCHEMA.encode())
            owner.execute("vacuum analyze")
            session = await connect(socket_target(own, name), Purpose.MONITOR, Settings())
            simulator = Simulator()
            try:
                yield Place(session, simulator, owner, request.param, own)
            finally:
                await simulator.close()
                await session.close()


async def _forecast(place: Place, ddl: str, queries: list[str]) -> Forecast:
    statements = [Statement(str(n), q, 1.0) for n, q in enumerate(queries)]
    return await place.simulator.simulate(place.session, ddl, statements)


async def test_estimates_equal_the_servers(place: Place) -> None:
    forecast = await _forecast(place, "create index on rich (country)", QUERIES)
    assert forecast.left_out == ()
    wrong = []
    for q in forecast.queries:
        text = QUERIES[int(q.queryid)]
        row = place.owner.execute(b"explain (format json) " + text.encode()).fetchone()
        assert row is not None
        real = row[0][0]["Plan"]
        if place.version < 17 and "span" in text:
            continue  # statistics of ranges are in no view before 17
        got = q.plan_before
        if (real["Total Cost"], real["Plan Rows"]) != (got["Total Cost"], got["Plan Rows"]):
            wrong.append((text, real["Total Cost"], got["Total Cost"], real["Plan Rows"], got["Plan Rows"]))
    assert wrong == []
    assert not any("planned by PostgreSQL" in r for r in forecast.confidence.reasons)
    assert [r for r in forecast.confidence.reasons if r.startswith("statistics ") and "stale" not in r] == []


async def test_a_parameter_is_planned_generically_on_every_major(place: Place) -> None:
    forecast = await _forecast(
        place,
        "create index on rich (country)",
        ["select * from rich where id = $1 and country = $2 limit $3", "update rich set p = $1 where id = $2"],
    )
    assert forecast.left_out == ()
    plan = str(forecast.queries[0].plan_before)
    assert "$1" in plan
    assert forecast.queries[1].plan_before["Node Type"] == "ModifyTable"


async def test_a_plain_monitor_forecasts_by_the_definer_function_and_reads_no_row(place: Place) -> None:
    from indexpilot_tui.engine.journal.setup import setup_sql

    ddl, query = "create index on rich (country)", "select * from rich where city = 'city7' and country = 'c2' and id < 9"
    role = f"watch_{secrets.token_hex(4)}"
    place.owner.execute(f"create role {role} login".encode())
    place.owner.execute(setup_sql().encode())
    place.owner.execute(setup_sql().encode())  # and again
    place.owner.execute(
        f"grant indexpilot_monitor to {role}; grant references on all tables in schema public to {role}".encode()
    )
    place.owner.execute("select indexpilot.enrol_statistics('public', 'r*')")
    with_rights = await _forecast(place, ddl, [query])
    session = await connect(socket_target(place.cluster, place.owner.info.dbname, role), Purpose.MONITOR, Settings())
    try:
        with pytest.raises(PrivilegeError):
            await session.rows("select * from public.rich limit 1")
        forecast = await place.simulator.simulate(session, ddl, [Statement("0", query, 1.0)])
        assert forecast.queries[0].cost_before == pytest.approx(with_rights.queries[0].cost_before, rel=0.2)
        assert forecast.index.size_bytes == with_rights.index.size_bytes
        assert not any("hidden" in r for r in forecast.confidence.reasons)
        # extended statistics are not in the function: what is missing is named
        assert any("rich_mcv" in r for r in forecast.confidence.reasons)
        place.owner.execute("revoke execute on all functions in schema indexpilot from indexpilot_monitor")
        blind = await place.simulator.simulate(session, ddl, [Statement("0", query, 1.0)])
        assert blind.confidence.level == "low"
        assert any("public.rich are hidden" in r for r in blind.confidence.reasons)
    finally:
        await session.close()
        place.owner.execute("drop schema indexpilot cascade")
        place.owner.execute(f"drop owned by {role}; drop role {role}".encode())
