"""The blast radius of a drop, on a live server: what hangs on an index is found, and only that."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.cli.simulate import forecast_lines
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.drop_model import DropForecast
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = {"orders_pkey": "constraint", "part_a_id_idx": "partitioned index", "customer_pkey": "foreign key refers"}
SCHEMA = """
create table customer (id int primary key, mail text not null, region int);
insert into customer select g, 'm' || g, g % 9 from generate_series(1, 5000) g;
create unique index customer_mail on customer (mail);
create table orders (id int primary key, customer_id int not null references customer on delete cascade, status text,
  code text not null, at date not null);
insert into orders select g, 1 + g % 5000, case when g % 100 = 0 then 'open' else 'done' end, 'c' || g,
  date '2024-01-01' + g % 900 from generate_series(1, 60000) g;
create index orders_customer on orders (customer_id);
create unique index orders_code on orders (code);
create index orders_status on orders (status);
create index orders_at on orders (at);
create table item (id int primary key, order_id int references orders, note text);
insert into item select g, 1 + g % 60000, 'n' from generate_series(1, 20000) g;
create index item_order on item (order_id);
create index item_order_note on item (order_id, note);
create table log (id int not null, v int); insert into log select g, g from generate_series(1, 3000) g;
create unique index log_id on log (id);
alter table log replica identity using index log_id;
create index log_v on log (v); cluster log using log_v;
create table part (id int not null, at date not null) partition by range (at);
create table part_a partition of part for values from ('2024-01-01') to ('2025-01-01');
create index part_id on part (id);
insert into part select g, date '2024-01-01' + g % 300 from generate_series(1, 20000) g;
analyze;
"""


@dataclass
class Place:
    session: Session
    simulator: Simulator
    owner: psycopg.Connection[Any]

    async def forecast(self, ddl: str, *queries: str) -> Forecast:
        statements = [Statement(str(n), q, 1.0) for n, q in enumerate(queries, 1)]
        return await self.simulator.simulate(self.session, ddl, statements)

    async def drop(self, index: str, *queries: str) -> DropForecast:
        found = (await self.forecast(f"drop index concurrently {index}", *queries)).drop
        assert found is not None
        return found


@pytest.fixture(scope="module")
def database(cluster18: LocalCluster) -> Iterator[str]:
    name = f"drops_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    with psycopg.connect(cluster18.conninfo(name), autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        conn.execute("vacuum analyze")
    yield name
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(cluster18: LocalCluster, database: str) -> AsyncIterator[Place]:
    session = await connect(socket_target(cluster18, database), Purpose.MONITOR, Settings())
    simulator = Simulator()
    with psycopg.connect(cluster18.conninfo(database), autocommit=True) as owner:
        yield Place(session, simulator, owner)
    await simulator.close()
    await session.close()


async def test_plans_that_change_are_named_with_what_takes_over(place: Place) -> None:
    found = await place.drop(
        "orders_at", "select * from orders where at = '2024-05-05'", "select * from orders where id = 3"
    )
    assert [p.queryid for p in found.plans] == ["1"]
    plan = found.plans[0]
    assert plan.cost_after > 5 * plan.cost_before
    assert any("orders_at" in scan for scan in plan.now)
    assert plan.then == ("Seq Scan on orders",)
    assert found.level == "slower"
    place.owner.execute("begin; drop index orders_at")
    row = place.owner.execute("explain (format json) select * from orders where at = '2024-05-05'").fetchone()
    place.owner.execute("rollback")
    assert row is not None
    assert plan.cost_after == pytest.approx(row[0][0]["Plan"]["Total Cost"], rel=0.001)


async def test_what_the_server_refuses_is_refused_with_its_words(place: Place) -> None:
    for index, words in REFUSED.items():
        found = await place.drop(index, "select 1 from customer")
        assert found.level == "refused"
        assert any(words in text for text in found.refused), found.refused
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            place.owner.execute(f"drop index {index}".encode())
    assert (await place.drop("customer_pkey", "select 1 from customer")).referenced_by == ("orders_customer_id_fkey",)


async def test_a_foreign_key_that_loses_its_only_index_is_named_and_one_that_has_another_is_not(place: Place) -> None:
    found = await place.drop("orders_customer", "select * from orders where id = 1")
    assert [(k.name, k.parent, k.on_delete) for k in found.served_keys] == [
        ("orders_customer_id_fkey", "public.customer", "cascade")
    ]
    assert found.level == "slower"
    assert (await place.drop("item_order", "select * from item where id = 1")).served_keys == ()


async def test_on_conflict_users_break_unless_another_index_can_judge(place: Place) -> None:
    upsert = "insert into orders (id, customer_id, code, at) values ($1, $2, $3, $4) on conflict (code) do nothing"
    other = "insert into orders (id, customer_id, code, at) values ($1, $2, $3, $4) on conflict (id) do nothing"
    found = await place.drop("orders_code", upsert, other)
    assert found.on_conflict == ("1",)
    assert found.level == "breaks"
    place.owner.execute("begin; drop index orders_code")
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        place.owner.execute("insert into orders values (1, 1, 'x', 'y', now()) on conflict (code) do nothing")
    place.owner.execute("rollback")
    place.owner.execute("create unique index orders_code_again on orders (code)")
    try:
        found = await place.drop("orders_code", upsert)
        assert found.on_conflict == ()
        assert found.breaks == ()
    finally:
        place.owner.execute("drop index orders_code_again")


async def test_uniqueness_replica_identity_and_cluster_mark(place: Place) -> None:
    assert any("uniqueness" in text for text in (await place.drop("customer_mail", "select 1 from customer")).breaks)
    found = await place.drop("log_id", "select * from log where id = 5")
    assert found.replica_identity
    assert any("replica identity" in text for text in found.breaks)
    assert (await place.drop("log_v", "select * from log where id = 5")).clustered
    assert not (await place.drop("orders_at", "select 1 from orders")).clustered


async def test_scans_are_counted_with_the_age_of_their_window(place: Place) -> None:
    place.owner.execute("select pg_stat_reset()")
    place.owner.execute("set enable_seqscan = off; select count(*) from orders where status = 'open'; reset enable_seqscan")
    place.owner.execute("select pg_stat_force_next_flush()")
    usage = (await place.drop("orders_status", "select * from orders where status = 'open'")).usage
    assert usage.scans == 1
    assert usage.window_s is not None
    assert 0 <= usage.window_s < 120
    assert usage.last_scan is not None
    assert (await place.drop("orders_at", "select * from orders")).usage.scans == 0


async def test_a_connected_standby_makes_its_use_unknown_and_none_is_said_so(place: Place) -> None:
    assert (await place.drop("orders_at", "select 1 from orders")).standbys.status == "none_connected"
    place.owner.execute("select pg_create_physical_replication_slot('away')")
    try:
        found = await place.drop("log_v", "select * from log where id = 5")
        assert found.standbys.status == "unknown"
        assert any("standbys" in text for text in found.unknown)
        assert found.level == "unknown"
    finally:
        place.owner.execute("select pg_drop_replication_slot('away')")
    assert (await place.drop("log_v", "select * from log where id = 5")).level == "none"


async def test_the_way_back_has_a_price_near_the_real_size(place: Place) -> None:
    found = await place.drop("orders_customer", "select 1 from orders")
    assert found.rebuild is not None
    row = place.owner.execute("select pg_relation_size('orders_customer')").fetchone()
    assert row is not None
    assert found.rebuild.size_bytes == pytest.approx(row[0], rel=0.3)
    assert 0 < found.rebuild.build_seconds[0] < found.rebuild.build_seconds[1]


async def test_without_a_workload_nothing_is_called_harmless(place: Place) -> None:
    found = await place.drop("orders_status")
    assert found.level == "unknown"
    assert any("no statement of the workload" in text for text in found.unknown)


async def test_an_invalid_leftover_can_be_judged(place: Place) -> None:
    place.owner.execute("create table twice (v int); insert into twice values (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        place.owner.execute("create unique index concurrently twice_v on twice (v)")
    found = await place.drop("twice_v", "select * from twice where v = 1")
    assert found.plans == ()
    assert found.rebuild is None
    assert found.level in ("none", "breaks")
    place.owner.execute("drop table twice")


async def test_it_is_told_as_text_and_as_json(place: Place) -> None:
    forecast = await place.forecast("drop index orders_customer", "select * from orders where customer_id = 7")
    text = "\n".join(forecast_lines(forecast))
    assert "blast radius: SLOWER" in text
    assert "foreign key orders_customer_id_fkey" in text
    drop = forecast.to_json()["drop"]
    assert drop["level"] == "slower"
    assert drop["plans"][0]["queryid"] == "1"
    assert "drop" not in (await place.forecast("create index on orders (status, at)", "select 1 from orders")).to_json()
