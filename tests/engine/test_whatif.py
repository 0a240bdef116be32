"""Forecasts against a live server: each compared with what the server's own planner says once the change is real."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.candidates import candidates
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import UsageError
from indexpilot_tui.localpg import LocalCluster, confinement
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one warm shadow for all tests

SCHEMA = '''
create extension pg_trgm;
create extension citext;
create extension hstore;
create type mood as enum ('sad', 'ok', 'happy');
create domain percent as int check (value between 0 and 100);
create type pair as (a int, b text);
create schema "We""ird; schema";
create table "We""ird; schema"."Ta'ble %s {x}" (
  "Id ""1""" int primary key, gone int, "se;lect" text not null, state mood, p percent, pr pair, tags text[], doc jsonb,
  at timestamptz, amount numeric(12,2), mail citext, span int4range,
  twice int generated always as (p * 2) stored, check (p >= 0));
insert into "We""ird; schema"."Ta'ble %s {x}" ("Id ""1""", "se;lect", state, p, pr, tags, doc, at, amount, mail, span)
  select g, 'v' || g % 500, (array['sad', 'ok', 'happy'])[1 + (g % 100 > 0)::int + (g % 10 > 0)::int]::mood, g % 101,
         row(g, 'x')::pair, array['t' || g % 50, 'u' || g % 7], jsonb_build_object('k', g % 1000),
         now() - g * interval '1 min',
         g % 977, 'User' || g || '@Example.org', int4range(g, g + 10)
    from generate_series(1, 60000) g;
alter table "We""ird; schema"."Ta'ble %s {x}" drop column gone;
-- all rows are sampled, so that the ends of the histogram are those of the table in every run
alter table "We""ird; schema"."Ta'ble %s {x}" alter column "Id ""1""" set statistics 300;
create index "odd; idx" on "We""ird; schema"."Ta'ble %s {x}" (lower("se;lect"));
create statistics "We""ird; schema".st (ndistinct, dependencies) on p, "se;lect" from "We""ird; schema"."Ta'ble %s {x}";
create view "We""ird; schema".happy as
  select "Id ""1""" as id, at from "We""ird; schema"."Ta'ble %s {x}" where state = 'happy';
create table part (id int not null, at date not null, v int) partition by range (at);
create table part_a partition of part for values from ('2024-01-01') to ('2024-07-01');
create table part_b partition of part for values from ('2024-07-01') to ('2025-01-01');
create index part_at on part (at);
insert into part select g, date '2024-01-01' + g % 366, g % 5000 from generate_series(1, 40000) g;
create table skew (id int primary key, status text not null, w int);
insert into skew select g, case when g % 1000 = 0 then 'pending' else 'done' end, g % 10 from generate_series(1, 80000) g;
create function public.twist(int) returns int immutable language sql as 'select $1 * 7';
create table odd (id int, v int); insert into odd select g, g from generate_series(1, 5000) g;
create index odd_twist on odd (public.twist(v));
create table parent (id int primary key); insert into parent select generate_series(1, 3000);
create table child (id int primary key, parent_id int references parent, extra int);
insert into child select g, 1 + g % 3000, g from generate_series(1, 50000) g;
create index child_extra on child (extra);
alter table child alter column extra set statistics 300;
analyze;
'''


@dataclass
class Place:
    """A database with the schema above, a monitor session on it and a connection of its owner."""

    session: Session
    simulator: Simulator
    owner: psycopg.Connection[Any]

    def plan(self, query: str) -> dict[str, Any]:
        row = self.owner.execute(b"explain (format json) " + query.encode()).fetchone()
        assert row is not None
        found: dict[str, Any] = row[0][0]["Plan"]
        return found

    async def forecast(self, ddl: str, *queries: str) -> Forecast:
        return await self.simulator.simulate(
            self.session, ddl, [Statement(str(n), q, 1.0) for n, q in enumerate(queries, 1)]
        )


@pytest.fixture(scope="module")
def database(cluster18: LocalCluster) -> Iterator[str]:
    name = f"whatif_{secrets.token_hex(4)}"
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


WEIRD = '"We""ird; schema"."Ta\'ble %s {x}"'
CREATES = [
    (f'create index new_ix on {WEIRD} ("se;lect")', f"select * from {WEIRD} where \"se;lect\" = 'v7'"),
    (f"create index new_ix on {WEIRD} (at desc) include (p)", f"select at, p from {WEIRD} order by at desc limit 20"),
    (f"create index new_ix on {WEIRD} (p) where state = 'sad'", f"select * from {WEIRD} where state = 'sad' and p < 40"),
    (f"create index new_ix on {WEIRD} using gin (tags)", f"select * from {WEIRD} where tags @> array['t7']"),
    (f"create index new_ix on {WEIRD} using gist (span)", f"select * from {WEIRD} where span && int4range(5, 9)"),
    (f"create index new_ix on {WEIRD} using hash (amount)", f"select * from {WEIRD} where amount = 99"),
    (f"create index new_ix on {WEIRD} using brin (at)", f"select count(*) from {WEIRD} where at > now() - interval '1 h'"),
    (f"create index new_ix on {WEIRD} using spgist (\"se;lect\")", f"select * from {WEIRD} where \"se;lect\" = 'v9'"),
    (f"create unique index new_ix on {WEIRD} (mail)", f"select * from {WEIRD} where mail = 'user5@example.org'"),
    ("create index new_ix on child (parent_id)", "select * from parent p join child c on c.parent_id = p.id where p.id = 5"),
    ("create index new_ix on skew (status text_pattern_ops, id)", "select * from skew where status like 'pend%'"),
]  # fmt: skip


@pytest.mark.parametrize(("ddl", "query"), CREATES, ids=[d.split(" on ")[1][-28:] for d, _ in CREATES])
async def test_create_equals_the_real_index(place: Place, ddl: str, query: str) -> None:
    forecast = await place.forecast(ddl, query)
    before = place.plan(query)
    place.owner.execute(ddl.encode())
    try:
        after = place.plan(query)
        size = place.owner.execute(
            "select pg_relation_size(indexrelid) from pg_index where indexrelid::regclass::text like '%new_ix'"
        ).fetchone()
    finally:
        schema = '"We""ird; schema".' if "We" in ddl else ""
        place.owner.execute(f"drop index {schema}new_ix".encode())
    assert forecast.left_out == ()
    (q,) = forecast.queries
    assert q.cost_before == pytest.approx(before["Total Cost"], rel=1e-4)
    # the size of an index that is not there is modelled, so small differences in cost are right
    assert q.cost_after == pytest.approx(after["Total Cost"], rel=0.06)
    assert q.uses_index == ("new_ix" in str(after))
    assert size is not None
    rough = 4.0 if any(m in ddl for m in ("gin", "gist")) else 1.3
    assert 1 / rough < forecast.index.size_bytes / size[0] < rough, (forecast.index.size_bytes, size[0])


async def test_drop_equals_the_server_without_it(place: Place) -> None:
    query = "select * from child where extra between 100 and 200"
    forecast = await place.forecast("drop index child_extra", query)
    (q,) = forecast.queries
    assert q.uses_index
    assert q.cost_before == pytest.approx(place.plan(query)["Total Cost"], rel=1e-4)
    place.owner.execute("begin")
    place.owner.execute("drop index child_extra")
    without = place.plan(query)
    place.owner.execute("rollback")
    assert q.cost_after == pytest.approx(without["Total Cost"], rel=1e-4)
    assert forecast.index.size_bytes == place.owner.execute("select pg_relation_size('child_extra')").fetchone()[0]  # type: ignore[index]


async def test_drop_says_what_stands_on_the_index(place: Place) -> None:
    forecast = await place.forecast("drop index parent_pkey", "select * from parent where id = 3")
    assert any("constraint parent_pkey owns this index" in n for n in forecast.notes)
    assert any("1 foreign keys depend" in n for n in forecast.notes)


async def test_partitions_are_all_indexed_and_a_view_reaches_its_table(place: Place) -> None:
    query = "select * from part where v = 17"
    forecast = await place.forecast("create index on part (v)", query)
    assert forecast.queries[0].uses_index
    assert forecast.queries[0].cost_after < forecast.queries[0].cost_before / 2
    assert forecast.queries[0].cost_before == pytest.approx(place.plan(query)["Total Cost"], rel=1e-4)
    view = 'select * from "We""ird; schema".happy where id < 100 and at > now()'
    seen = await place.forecast(f"create index on {WEIRD} (at)", view)
    assert seen.queries[0].uses_index
    # the server looks at the real end of the index for a constant outside the histogram
    assert seen.queries[0].cost_before == pytest.approx(place.plan(view)["Total Cost"], rel=0.01)


async def test_expression_index_gets_derived_statistics(place: Place) -> None:
    query = "select * from skew where upper(status) = 'PENDING'"
    forecast = await place.forecast("create index ux on skew (upper(status))", query)
    (q,) = forecast.queries
    assert q.uses_index
    # 80 rows are there; without statistics the planner takes 0.5 % of all, 400
    assert 30 < q.plan_after["Plan Rows"] < 180
    assert any("only after ANALYZE" in n for n in forecast.notes)


async def test_what_cannot_be_planned_is_named_and_the_rest_is_forecast(place: Place) -> None:
    forecast = await place.forecast(
        "create index on odd (id)",
        "select * from odd where id = 5", "select * from odd where twist(v) = 3", "select * from nowhere", "vacuum odd",
        "select 1; select 2", "select * frm odd", "select * from pg_class where oid = 1",
        "select * from odd where nothing(v) = 3",
    )  # fmt: skip
    # an index on a function of the target is there, with the statistics of its values
    assert [q.queryid for q in forecast.queries] == ["1", "2"]
    twisted = place.plan("select * from odd where twist(v) = 3")
    assert forecast.queries[1].cost_before == pytest.approx(twisted["Total Cost"], rel=1e-6)
    assert "odd_twist" in str(forecast.queries[1].plan_before)
    reasons = {x.key: x.reason for x in forecast.left_out}
    assert "function nothing(integer) does not exist" in reasons["8"]
    assert "nowhere is not on the target" in reasons["3"]
    assert "utility statement" in reasons["4"]
    assert "2 statements" in reasons["5"]
    assert "syntax error" in reasons["6"]
    assert "system catalog" in reasons["7"]
    assert forecast.confidence.level == "low"


async def test_a_rare_constant_is_priced_where_the_generic_plan_hides_it(place: Place) -> None:
    forecast = await place.forecast(
        "create index on skew (id) where status = 'pending'", "select * from skew where status = $1"
    )
    (q,) = forecast.queries
    assert not q.uses_index
    rare = next(p for p in q.points if "pending" in p.label)
    common = next(p for p in q.points if "'done'" in p.label)
    assert rare.uses_index
    assert rare.cost_after < rare.cost_before / 3
    assert not common.uses_index
    assert any("the generic plan does not" in n for n in forecast.notes)


REPAIRED = [
    f"select * from {WEIRD} where at > now() - interval $1",
    f"select * from {WEIRD} where at > $1::date - interval $2",
    f"select * from {WEIRD} where at > timestamp $1 and at < date $2",
    f"select * from {WEIRD} where at > now() - $1",
    f"select * from {WEIRD} where at::date > current_date - $1",
    f"select * from {WEIRD} where extract($1 from at) = $2",
    f"select * from {WEIRD} where p = any(array[$1, $2, $3])",
    f"select * from {WEIRD} where p <> all(array[$1, $2])",
    f"select * from {WEIRD} where p in ($1 /*, ... */)",
    f"select * from {WEIRD} where p between $1 and $2 order by at limit $3 offset $4",
    f"update {WEIRD} set amount = amount + $1 where p = $2",
    f"delete from {WEIRD} where p = $1",
    f"insert into {WEIRD} (\"Id \"\"1\"\"\", \"se;lect\") values ($1, $2) on conflict do nothing",
]  # fmt: skip


async def test_normalised_statements_are_repaired(place: Place) -> None:
    forecast = await place.forecast(f"create index on {WEIRD} (p)", *REPAIRED)
    assert [(x.key, x.reason) for x in forecast.left_out] == []
    assert len(forecast.queries) == len(REPAIRED)


async def test_hot_updates_and_redundancy(place: Place) -> None:
    forecast = await place.forecast(
        "create index on child (extra, parent_id)",
        "update child set extra = $1 where id = $2", "update child set parent_id = $1 where id = $2",
    )  # fmt: skip
    assert forecast.redundant == ("public.child_extra",)
    # writing `extra` is not HOT today; writing parent_id is, and would no longer be
    assert forecast.writes.hot_lost_pct == 100.0
    assert forecast.writes.extra_wal_bytes_per_write == 64.0


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("create index on nowhere (a)", "no such table"),
        ("create index on child (nocolumn)", 'column "nocolumn" does not exist'),
        ("create index child_extra on child (parent_id)", "already exists"),
        ("drop index nowhere_idx", "no such index"),
        ("drop index child", "not an index"),
        ("create index on child using nomethod (extra)", "does not exist"),
        ('create index on "We""ird; schema".happy (at)', "is a view"),
        ("drop table child", "only DROP INDEX"),
    ],
)
async def test_wrong_changes_get_one_clear_message(place: Place, ddl: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        await place.forecast(ddl, "select 1 from child")
    assert words in str(caught.value)
    # and the shadow is as it was: the next forecast is right
    again = await place.forecast("create index on child (parent_id)", "select * from child where parent_id = 4")
    assert again.queries[0].uses_index


async def test_a_changing_target_is_followed(place: Place) -> None:
    query = "select * from odd where id = 5"
    first = await place.forecast("create index on odd (id)", query)
    place.owner.execute("insert into odd select g, g from generate_series(1, 300000) g")
    grown = await place.forecast("create index on odd (id)", query)
    assert grown.queries[0].cost_before == pytest.approx(place.plan(query)["Total Cost"], rel=1e-4)
    assert grown.queries[0].cost_before > first.queries[0].cost_before * 5
    assert grown.index.size_bytes > first.index.size_bytes * 5
    place.owner.execute("analyze odd")
    analyzed = await place.forecast("create index on odd (id)", query)
    assert analyzed.queries[0].cost_before == pytest.approx(place.plan(query)["Total Cost"], rel=1e-4)
    assert analyzed.queries[0].plan_before["Plan Rows"] == place.plan(query)["Plan Rows"]


async def test_hidden_statistics_lower_the_confidence_and_name_the_grant(
    cluster18: LocalCluster, database: str, place: Place
) -> None:
    role = f"blind_{secrets.token_hex(4)}"
    place.owner.execute(f"create role {role} login in role pg_monitor".encode())
    session = await connect(socket_target(cluster18, database, role), Purpose.MONITOR, Settings())
    try:
        forecast = await place.simulator.simulate(
            session, "create index on child (parent_id)", [Statement("1", "select * from child where parent_id = 1", 1)]
        )
    finally:
        await session.close()
        place.owner.execute(f"drop role {role}".encode())
    assert forecast.confidence.level == "low"
    assert any("public.child are hidden" in r and "pg_read_all_data" in r for r in forecast.confidence.reasons)


async def test_the_targets_text_cannot_act_on_the_shadow(place: Place) -> None:
    """A view whose text a hostile server sends runs as a role without powers, one statement at a time."""
    from indexpilot_tui.engine.whatif.statements import parse

    snapshot_forecast = await place.forecast("create index on child (parent_id)", "select * from child")
    assert snapshot_forecast.left_out == ()
    server = place.simulator._server
    shadow = next(iter(server._databases.values()))
    from psycopg import sql

    for text in ("select 1; drop table public.child", "copy public.child to program 'true'", "set role indexpilot"):
        with pytest.raises(psycopg.Error):
            await shadow.foreign(sql.Composed([sql.SQL(text)]))
    assert parse(Statement("1", "select 1; drop table child", 1)).refused


async def test_candidates_serve_the_statement_and_skip_what_is_there(place: Place) -> None:
    assert await candidates(place.session, "select * from child where extra = $1") == []
    found = await candidates(place.session, "select * from child c join parent p on p.id = c.parent_id where c.extra > 5")
    assert found == ['CREATE INDEX ON "public"."child" ("parent_id")']
    both = await candidates(place.session, f'select * from {WEIRD} where "se;lect" = $1 and at > $2 order by p')
    assert both[0] == f'CREATE INDEX ON {WEIRD} ("se;lect", "at")'
    rare = await candidates(place.session, "select id from skew where status = 'pending' order by id")
    assert rare[0] == """CREATE INDEX ON "public"."skew" ("id") WHERE "status" = 'pending'"""
    for ddl in [*both, *rare]:
        assert (await place.forecast(ddl, "select 1 from child")).index.size_bytes > 0
    assert await candidates(place.session, "vacuum child") == []


async def test_only_a_collation_like_c_lets_like_use_an_index(cluster18: LocalCluster, place: Place) -> None:
    name = f"whatif_{secrets.token_hex(4)}"
    place.owner.execute(f"create database {name} template template0 locale_provider libc locale 'C.UTF-8'".encode())
    try:
        with psycopg.connect(cluster18.conninfo(name), autocommit=True) as owner:
            owner.execute("create collation posix_like (provider = libc, locale = 'POSIX')")
            owner.execute('create table t (a text, b text collate "C", c text collate posix_like)')
            owner.execute("insert into t select md5(g::text), md5(g::text), md5(g::text) from generate_series(1, 30000) g")
            owner.execute("analyze t")
        session = await connect(socket_target(cluster18, name), Purpose.MONITOR, Settings())
        used = {}
        for column in "abc":
            forecast = await place.simulator.simulate(
                session, f"create index on t ({column})", [Statement("1", f"select * from t where {column} like 'ab%'", 1)]
            )
            used[column] = forecast.queries[0].uses_index
        await session.close()
    finally:
        place.owner.execute(f"drop database {name} with (force)".encode())
    assert used == {"a": False, "b": True, "c": True}


async def test_many_at_once_and_one_cut_short(cluster18: LocalCluster, database: str, place: Place) -> None:
    query = [Statement("1", "select * from child where parent_id = 4", 1)]
    sessions = [await connect(socket_target(cluster18, database), Purpose.MONITOR, Settings()) for _ in range(4)]
    ddl = "create index on child (parent_id)"
    together = await asyncio.gather(*(place.simulator.simulate(s, ddl, query) for s in sessions))
    assert {f.queries[0].cost_after for f in together} == {together[0].queries[0].cost_after}
    for delay in (0.01, 0.03, 0.05):
        session = sessions.pop()
        task = asyncio.create_task(place.simulator.simulate(session, ddl, query))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await session.close()
        again = await place.forecast(ddl, query[0].sql)
        assert again.queries[0].cost_after == together[0].queries[0].cost_after
    await sessions.pop().close()


async def test_the_forecast_tells_the_confinement_and_nothing_is_left_when_the_simulator_closes(place: Place) -> None:
    simulator = Simulator()
    forecast = await simulator.simulate(
        place.session, "create index on child (parent_id)", [Statement("1", "select 1 from child", 1)]
    )
    (running,) = simulator._server._clusters.values()
    cluster = running.cluster
    assert cluster.data_dir.exists()
    assert forecast.to_json()["confinement"] == cluster.confinement == confinement.status()
    told = [r for r in forecast.confidence.reasons if "not confined" in r]
    assert bool(told) == cluster.confinement.startswith("none"), "a reason exactly where the kernel has none"
    await simulator.close()
    assert not cluster.data_dir.exists()
    assert not cluster.running


async def test_statements_of_the_server_are_those_that_touch_the_table(place: Place) -> None:
    place.owner.execute("create extension if not exists pg_stat_statements")
    place.owner.execute("select pg_stat_statements_reset()")
    place.owner.execute("select count(*) from child where parent_id = 77")
    place.owner.execute("select count(*) from skew where id = 77")
    forecast = await place.simulator.simulate(place.session, "create index on child (parent_id)")
    assert [q.query for q in forecast.queries] == ["select count(*) from child where parent_id = $1"]
    assert forecast.queries[0].uses_index
    assert any("touch the table" in n for n in forecast.notes)


async def test_reindex_forecasts_the_size_of_a_fresh_build(place: Place) -> None:
    place.owner.execute("create table fat (id int); insert into fat select generate_series(1, 100000)")
    place.owner.execute("create index fat_id on fat (id)")
    place.owner.execute("delete from fat where id % 10 > 0")
    place.owner.execute("vacuum analyze fat")
    forecast = await place.forecast("reindex index concurrently fat_id", "select * from fat where id < 500")
    place.owner.execute("reindex index fat_id")
    real = place.owner.execute("select pg_relation_size('fat_id')").fetchone()
    place.owner.execute("drop table fat")
    assert real is not None
    assert 0.8 < forecast.index.size_bytes / real[0] < 1.25
