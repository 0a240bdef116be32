"""What a statement costs with constants in place of its parameters: the costs that the server's own EXPLAIN gives for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.model import Forecast, PricePoint, QueryForecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.bench.tpch_server import DEBIAN_15
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = """
create table jobs (id int primary key, status text not null, tenant int, at timestamptz, due date, cost numeric(8,2), mail text);
insert into jobs select g, case when g % 1000 = 0 then 'pending' else 'done' end, 1 + (g % 20) * (g % 3),
  timestamptz '2024-01-01' + g * interval '1 min', date '2024-01-01' + g % 300, g % 500, 'u' || g % 3000
  from generate_series(1, 60000) g;
create index jobs_at on jobs (at);
create index jobs_pending on jobs (id) where status = 'pending';
create table other (id int primary key, status text);
insert into other select g, 's' || g from generate_series(1, 1000) g;
create view live as select id, mail, tenant from jobs where status <> 'gone';
"""


@dataclass
class Place:
    session: Session
    simulator: Simulator
    owner: psycopg.Connection[Any]

    async def forecast(self, ddl: str, *queries: str) -> Forecast:
        return await self.simulator.simulate(self.session, ddl, [Statement(q, q, 1.0) for q in queries])

    async def points(self, query: str, ddl: str = "create index on jobs (tenant)") -> dict[str, PricePoint]:
        (found,) = (await self.forecast(ddl, query)).queries
        return {p.kind: p for p in found.points}

    def cost(self, query: str) -> float:
        row = self.owner.execute(b"explain (format json) " + query.encode()).fetchone()
        assert row is not None
        return float(row[0][0]["Plan"]["Total Cost"])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[None, DEBIAN_15], ids=["18", "15"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    bindir: Path | None = request.param
    if bindir is not None and not bindir.exists():
        pytest.skip("needs Debian's postgresql-15")
    async with await LocalCluster.start("points", bindir=bindir, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as owner:
            owner.execute(SCHEMA.encode())
            owner.execute("vacuum analyze")
            session = await connect(socket_target(cluster, "postgres"), Purpose.MONITOR, Settings())
            simulator = Simulator()
            try:
                yield Place(session, simulator, owner)
            finally:
                await simulator.close()
                await session.close()


async def test_each_kind_of_value_costs_what_the_server_says(place: Place) -> None:
    at = await place.points("select * from jobs where status = $1")
    assert at["common"].cost_before == pytest.approx(place.cost("select * from jobs where status = 'done'"))
    assert at["rare"].cost_before == pytest.approx(place.cost("select * from jobs where status = 'pending'"))
    assert at["rare"].cost_before < at["common"].cost_before / 3
    assert "'pending' (0." in at["rare"].label
    at = await place.points("select * from jobs where id = $1 and tenant = $2")
    assert set(at) == {"common", "rare", "median", "outside"}
    assert "(beyond the histogram)" in at["outside"].label


async def test_ranges_hold_most_half_few_and_none(place: Place) -> None:
    at = await place.points("select * from jobs where at > $1 order by at")
    assert at["rare"].cost_before < at["median"].cost_before < at["common"].cost_before
    # past the end the server looks at the index itself, which has nothing there
    assert at["outside"].cost_before <= at["rare"].cost_before
    at = await place.points("select * from jobs where due between $1 and $2 and cost < $3")
    assert set(at) == {"common", "rare", "median", "outside"}
    turned = await place.points("select * from jobs where $1 < at order by at")
    assert turned["rare"].cost_before < turned["common"].cost_before


@pytest.mark.parametrize(
    "query",
    [
        "select * from jobs where tenant in ($1, $2, $3)", "select * from jobs where tenant = any($1)",
        "select * from jobs where tenant = any($1::int[]) and status <> $2", "select * from jobs where mail like $1",
        "select * from jobs j join other o on o.id = j.tenant where o.status = $1 and j.status = $2",
        "select * from live where tenant = $1", "update jobs set cost = $1 where tenant = $2 and due = $3",
        "delete from jobs where at < $1", "select * from jobs where tenant = $1 limit $2",
        "with x as (select id from jobs where tenant = $1) select * from x",
        "select * from jobs where status = $1 and tenant = $2 and due = $3 and at between $4 and $5",
    ],
)  # fmt: skip
async def test_every_parameter_that_is_compared_gets_a_value(place: Place, query: str) -> None:
    forecast = await place.forecast("create index on jobs (tenant)", query)
    assert forecast.left_out == ()
    (found,) = forecast.queries
    assert {p.kind for p in found.points} & {"common", "rare"}
    assert found.range_before[0] <= found.cost_before <= found.range_before[1]
    assert found.range_after[0] <= found.range_before[0]


async def test_constants_that_run_now_are_a_point_of_their_own(place: Place) -> None:
    with psycopg.connect(place.owner.info.dsn, autocommit=True) as busy:
        busy.execute("select /* shop */ * from jobs where tenant = 57 and status in ('pending', 'done')  limit 3")
        at = await place.points("select * from jobs where tenant = $1 and status in ($2, $3) limit $4")
        label = at["observed"].label
        assert "tenant: '57'" in label
        assert "status: 'pending'" in label
        text = "select * from jobs where tenant = 57 and status in ('pending', 'done') limit 3"
        assert at["observed"].cost_before == pytest.approx(place.cost(text))
    assert "observed" not in await place.points("select * from jobs where tenant = $1 and status in ($2, $3) limit $4")


async def test_a_role_that_sees_no_texts_is_told_nothing_false(place: Place) -> None:
    with psycopg.connect(place.owner.info.dsn, autocommit=True) as busy:
        busy.execute("select * from jobs where tenant = 57")
        place.owner.execute("create role nobody_much login; grant pg_read_all_data to nobody_much" if
                            place.owner.info.server_version >= 140000 else "")  # fmt: skip
        settings = psycopg.conninfo.conninfo_to_dict(place.owner.info.dsn)
        dsn = psycopg.conninfo.make_conninfo(**{**settings, "user": "nobody_much"})
        from indexpilot_tui.settings.model import Target

        session = await connect(Target(name="x", environment="development", dsn=dsn), Purpose.MONITOR, Settings())
        try:
            forecast = await place.simulator.simulate(
                session, "create index on jobs (tenant)", [Statement("1", "select * from jobs where tenant = $1", 1.0)]
            )
        finally:
            await session.close()
            place.owner.execute("drop owned by nobody_much; drop role nobody_much")
    assert "observed" not in {p.kind for p in forecast.queries[0].points}


async def test_a_drop_that_only_a_rare_value_feels_is_no_free_drop(place: Place) -> None:
    forecast = await place.forecast("drop index jobs_pending", "select * from jobs where status = $1")
    (q,) = forecast.queries
    assert q.cost_before == q.cost_after  # the generic plan reads the table
    assert forecast.drop is not None
    assert forecast.drop.level == "slower"
    (change,) = forecast.drop.plans
    assert "'pending'" in change.constants
    assert change.cost_after > change.cost_before * 3
    assert forecast.to_json()["drop"]["plans"][0]["constants"] == change.constants


async def test_the_same_forecast_again_is_the_same(place: Place) -> None:
    query = "select * from jobs where status = $1 and tenant = $2"

    def prices(q: QueryForecast) -> list[tuple[str, float, float]]:
        return [(p.kind, p.cost_before, p.cost_after) for p in q.points]

    first = (await place.forecast("create index on jobs (tenant, status)", query)).queries[0]
    again = (await place.forecast("create index on jobs (tenant, status)", query)).queries[0]
    other = (await place.forecast("create index on jobs (due)", query)).queries[0]
    assert prices(first) == prices(again)
    assert first.points != ()
    assert [x[1] for x in prices(other)] == [x[1] for x in prices(first)] == [x[2] for x in prices(other)]
    assert any(p.cost_after < p.cost_before for p in first.points)
