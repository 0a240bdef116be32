"""Looking at real servers: rates, resets, hidden rows, builds, refusals, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from indexpilot_tui.engine.changes.plan_shapes import read_plans
from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, question
from indexpilot_tui.engine.observe.health import read_health
from indexpilot_tui.engine.observe.model import FindingKind
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.observe.source import Source, statements_question
from indexpilot_tui.engine.observe.texts import HURRIED
from indexpilot_tui.engine.observe.top import top_statements
from indexpilot_tui.engine.postgres.planner import planning_session
from indexpilot_tui.errors import ServerError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings
from tests.conftest import socket_target
from tests.engine.observe_room import SETTINGS, Place, make_place
from tests.servers import DEBIAN_15, require


@pytest.fixture(scope="session")
def observe_debian15() -> Iterator[LocalCluster]:
    require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    preload = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
    cluster = asyncio.run(LocalCluster.start("observe", settings=preload, bindir=DEBIAN_15))
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture(params=["18", "15"])
def observed_server(request: pytest.FixtureRequest) -> LocalCluster:
    server: LocalCluster = request.getfixturevalue("cluster18" if request.param == "18" else "observe_debian15")
    return server


@pytest.fixture
async def place(observed_server: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(observed_server, extension_schema="stat statements") as made:
        yield made


async def busy(conn: psycopg.AsyncConnection[tuple[object, ...]], times: int) -> None:
    for _ in range(times):
        await conn.execute("select count(*) from hot where a = 1")


async def test_the_first_refresh_has_rates_and_the_next_ones_are_deltas(place: Place) -> None:
    await place.run("create table hot (a int)", "insert into hot select 1 from generate_series(1, 1000)")
    app = await place.connection(await place.role("app", "pg_read_all_data"))
    monitor = await place.role("mon", "pg_monitor")
    await place.run(f'grant usage on schema "stat statements" to {monitor}')
    await busy(app, 200)  # before we look: must not show
    watcher = Watcher(SETTINGS)
    async with place.session(monitor) as session:
        first, _ = await asyncio.gather(watcher.refresh(session), busy(app, 300))
        assert first.error == ""
        assert first.hotspots.interval_s > 0.3
        await asyncio.sleep(0.3)
        second_load = busy(app, 25)
        await second_load
        second = await watcher.refresh(session)
        (spot,) = [s for s in second.hotspots.items if "from hot" in s.query]
        detail = watcher.detail(spot.queryid)
        third = await watcher.refresh(session)
    assert detail.calls == 525
    assert spot.calls_per_s * second.hotspots.interval_s <= 325 + 1e-6  # not the 200 from before
    assert spot.user.startswith("app_")
    assert detail.raw_query == "select count(*) from hot where a = $1"
    assert detail.mean_ms * detail.calls == pytest.approx(detail.total_ms)
    assert 1 <= len(detail.history) <= 2
    assert not [s for s in third.hotspots.items if "from hot" in s.query]
    for seen in (first, second, third):  # our own reads are no hotspots
        assert not [s for s in seen.hotspots.items if "indexpilot" in s.query or "pg_catalog" in s.query]
        assert seen.refused == ()
    await app.close()


async def test_a_reset_begins_an_epoch_and_no_rate_goes_negative(place: Place) -> None:
    await place.run("create table hot (a int)")
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        await busy(place.admin, 50)
        await watcher.refresh(session)
        await busy(place.admin, 50)
        await place.run('select "stat statements".pg_stat_statements_reset()')
        await busy(place.admin, 5)
        seen = await watcher.refresh(session)
    assert "reset" in seen.hotspots.epoch_note
    (spot,) = [s for s in seen.hotspots.items if "from hot" in s.query]
    assert round(spot.calls_per_s * seen.hotspots.interval_s) == 5
    assert all(s.calls_per_s >= 0 and s.ms_per_s >= 0 for s in seen.hotspots.items)


async def test_an_ordinary_refresh_is_one_round_trip_of_four_statements(place: Place) -> None:
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        await watcher.refresh(session)
        seen = [await watcher.refresh(session) for _ in range(6)]
    assert [o.cost.round_trips for o in seen[2:]] == [1] * 4
    assert all(o.cost.statements <= 4 for o in seen[2:])
    assert seen[-1].health is seen[0].health  # read once in its own interval
    assert all(o.cost.server_ms > 0 for o in seen[2:])
    assert min(o.cost.server_ms for o in seen[2:]) < 5
    assert seen[0].signals is not None
    assert seen[0].signals.replication is not None


async def test_the_questions_of_older_servers_are_sound(place: Place) -> None:
    """The variants for 13 and 14 use nothing that newer servers lack, so they can be tried here (but for the counters of
    statements, whose columns have got other names)."""
    await place.run("create table t (a int primary key)", "create index on t (a) where a > 3", "select count(*) from t")
    old = Source("stat statements", 130000)
    asker = Asker()
    questions = [
        question("probe", 130000), question("builds", 130000), question("health_facts", 130000),
        question("indexes", 130000, first=0, last=2**32 - 1, definitions=True), question("index_state", 130000), question("index_work", 130000),
        question("index_sizes", 130000, first=0, last=2**32 - 1), question("foreign_keys", 130000, oids=None),
        statements_question("texts", old, "", queryids=[1, 2]),
        statements_question("top_statements", old, "", limit=3),
    ]  # fmt: skip
    async with place.session() as session:
        answers = await asker.ask(session, questions)
        newer = await asker.ask(
            session, [question("indexes", session.facts.server_version, first=0, last=2**32 - 1, definitions=True)]
        )
    assert not [a for a in answers.values() if isinstance(a, Refusal)]
    assert len(answers) == len(questions)
    old_row, new_row = answers["indexes"][0], newer["indexes"][0]  # type: ignore[index]
    assert set(old_row) == set(new_row)


async def test_hidden_rows_are_not_taken_for_a_quiet_server(place: Place) -> None:
    blind = await place.role("blind")
    await place.run(f'grant usage on schema "stat statements" to {blind}', "create table hot (a int)")
    other = await place.connection(await place.role("app"))
    watcher = Watcher(SETTINGS)
    async with place.session(blind) as session:
        await watcher.refresh(session)
        await busy(place.admin, 3)
        seen = await watcher.refresh(session)
    await other.close()
    assert seen.hotspots.hidden > 0
    assert (seen.activity.active_backends, seen.activity.lock_waiters, seen.activity.oldest_xact_s) == (None, None, None)
    assert seen.activity.connections is not None
    assert seen.activity.connections >= 2
    assert all(f'GRANT pg_monitor TO "{blind}"' in text for text in seen.refused)
    assert len(seen.refused) == 2


async def test_without_the_extension_it_says_what_to_do_and_finds_it_later(cluster18: LocalCluster) -> None:
    eager = Settings(observe=Observe(health_interval_seconds=5))
    async with make_place(cluster18, extension_schema=None) as place, place.session() as session:
        watcher = Watcher(eager)
        seen = await watcher.refresh(session)
        assert not seen.hotspots.available
        assert "CREATE EXTENSION pg_stat_statements" in seen.hotspots.unavailable
        assert seen.activity.active_backends is not None
        assert seen.health is not None
        working = asyncio.create_task(place.run("select 'secret', pg_sleep(1.5)"))
        await asyncio.sleep(0.3)
        sampled = (await watcher.refresh(session)).hotspots
        await working
        (spot,) = sampled.items
        assert (sampled.available, sampled.sampled) == (False, True)
        assert spot.query == "select ?, pg_sleep(?)"
        assert (spot.calls_per_s, spot.mean_ms) == (None, None)
        assert spot.share == 1
        assert spot.ms_per_s == pytest.approx(1000)
        with pytest.raises(UsageError, match="only sampled"):
            watcher.detail(spot.queryid)
        await place.run("create extension pg_stat_statements")
        watcher._slow.rota.hurry("probe")  # as if its interval had passed
        await watcher.refresh(session)
        assert (await watcher.refresh(session)).hotspots.available
        await place.run("drop extension pg_stat_statements")
        with pytest.raises(ServerError, match="CREATE EXTENSION"):
            await top_statements(session, 5)


async def test_a_schema_that_may_not_be_used_is_named_with_its_grant(place: Place) -> None:
    monitor = await place.role("mon", "pg_monitor")
    async with place.session(monitor) as session:
        seen = await Watcher(SETTINGS).refresh(session)
    assert f'GRANT USAGE ON SCHEMA "stat statements" TO "{monitor}"' in seen.hotspots.unavailable


async def test_a_lasting_refusal_is_sent_once_and_a_passing_one_again(place: Place) -> None:
    now = [0.0]
    asker = Asker(clock=lambda: now[0])
    secret = Question("secret", "select * from secret", remedy="GRANT SELECT ON secret TO me")
    slow = Question("slow", "select pg_catalog.pg_sleep(1)")
    fine = Question("fine", "select 1 as one")
    await place.run("create table public.secret (a int)")
    blind = await place.role("blind")
    async with place.session(blind) as session:
        await session.execute("set search_path = public, pg_catalog")
        await session.execute("set statement_timeout = '100ms'")
        answers = await asker.ask(session, [secret, slow, fine])
        assert answers["fine"] == [{"one": 1}]
        refusal = answers["secret"]
        assert isinstance(refusal, Refusal)
        assert refusal.lasting
        assert "GRANT SELECT" in str(refusal)
        passing = answers["slow"]
        assert isinstance(passing, Refusal)
        assert not passing.lasting
        asker.take_tally()
        again = await asker.ask(session, [secret, slow, fine])
        assert again["fine"] == [{"one": 1}]
        assert again["secret"] is refusal
        assert again["slow"] is passing  # it rests
        assert asker.take_tally().statements == 1
        now[0] += passing.pause_s
        longer = (await asker.ask(session, [slow]))["slow"]
        assert isinstance(longer, Refusal)
        assert longer.pause_s == 2 * passing.pause_s
        await place.run(f"grant select on secret to {blind}")
        asker.forget()
        assert (await asker.ask(session, [secret]))["secret"] == []


async def test_a_lost_server_keeps_the_last_data_and_says_so(place: Place) -> None:
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        good = await watcher.refresh(session)
        await place.admin.execute("select pg_terminate_backend(%s)", (session.facts.server_pid,))
        lost = await watcher.refresh(session)
    assert good.error == ""
    assert lost.error != ""
    assert lost.at == good.at
    assert lost.activity == good.activity
    fresh = await Watcher(SETTINGS).refresh(session)
    assert fresh.error != ""
    assert fresh.activity.active_backends is None


async def test_old_transactions_waiters_and_the_snapshot_are_seen(place: Place) -> None:
    await place.run("create table t (a int)")
    holder, waiter = await place.connection(), await place.connection()
    await holder.execute("begin isolation level repeatable read")
    await holder.execute("select 1 from pg_class limit 1")
    await holder.execute("lock table t in access exclusive mode")
    waiting = asyncio.create_task(waiter.execute("select * from t"))
    await asyncio.sleep(0.5)
    async with place.session() as session:
        seen = await Watcher(SETTINGS).refresh(session)
    assert seen.activity.lock_waiters == 1
    assert seen.activity.oldest_xact_pid == holder.info.backend_pid
    assert seen.activity.oldest_xact_s is not None
    assert seen.activity.oldest_xact_s >= 0.4
    assert seen.activity.oldest_snapshot_s is not None
    assert seen.activity.oldest_snapshot_s >= 0.4
    assert seen.activity.active_backends == 1  # the waiter; the holder is idle in its transaction
    await holder.execute("rollback")
    await waiting
    await holder.close()
    await waiter.close()


async def test_health_waits_for_no_lock(place: Place) -> None:
    await place.run(
        "create table t (a int, b int)", "create index t_a on t (a)", "create index t_a2 on t (a)", "create table u (a int)",
        "create index u_a on u (a)", "create index u_a2 on u (a)",
    )  # fmt: skip
    holder = await place.connection()
    await holder.execute("begin")
    await holder.execute("lock table t in access exclusive mode")
    async with place.session() as session:
        health = await read_health(session, SETTINGS)
        await holder.execute("rollback")
        later = await read_health(session, SETTINGS)
    await holder.close()
    rows = {row.name: row for row in health.indexes}
    assert rows["public.t_a"].size_bytes is None
    assert rows["public.u_a"].size_bytes is not None
    assert any("locked exclusively" in note for note in health.notes)
    assert [f.table for f in later.findings if f.kind is FindingKind.DUPLICATE] == ["public.t", "public.u"]
    assert not any("locked" in note for note in later.notes)


async def test_a_build_is_a_build_and_its_leftover_a_leftover(place: Place) -> None:
    await place.run("create table t (a int)", "insert into t values (1), (1)")
    holder, builder = await place.connection(), await place.connection()
    await holder.execute("begin isolation level repeatable read")
    await holder.execute("insert into t values (2)")
    build = asyncio.create_task(builder.execute("create index concurrently t_a on t (a)"))
    await asyncio.sleep(0.5)
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        seen = await watcher.refresh(session)
        (progress,) = seen.builds
        assert progress.index == "public.t_a"
        assert "waiting for writers" in progress.phase
        assert progress.blocker_pid == holder.info.backend_pid
        assert seen.health is not None
        assert [f.kind for f in seen.health.findings if f.oid] == [FindingKind.BUILDING]
        await place.admin.execute("select pg_cancel_backend(%s)", (builder.info.backend_pid,))
        with pytest.raises(psycopg.errors.QueryCanceled):
            await build
        await holder.execute("commit")
        after = await read_health(session, SETTINGS)
    (leftover,) = [f for f in after.findings if f.kind is FindingKind.INVALID]
    assert leftover.fix == 'DROP INDEX CONCURRENTLY "public"."t_a"'
    await place.run(leftover.fix)
    await holder.close()
    await builder.close()


async def test_real_definitions_are_compared_by_structure(place: Place) -> None:
    await place.run(
        'create table "Weird ""table" (id int primary key, "a b" text, c int, d int)',
        'create index w1 on "Weird ""table" (lower("a b"), c)',
        'create index w2 on "Weird ""table" (lower("a b"))',
        'create index w3 on "Weird ""table" (lower("a b") text_pattern_ops)',
        'create index w4 on "Weird ""table" (c) where d > 5',
        'create index w5 on "Weird ""table" (c) where d > 5',
        'create index w6 on "Weird ""table" (c desc)',
        'create index w7 on "Weird ""table" (c nulls first)',
        'create index w8 on "Weird ""table" (d) include (c)',
        'create index w9 on "Weird ""table" (d, c)',
        'create unique index w10 on "Weird ""table" (d)',
    )
    async with place.session() as session:
        health = await read_health(session, SETTINGS)
        by_kind = {
            kind: sorted(f.index for f in health.findings if f.kind is kind)
            for kind in (FindingKind.DUPLICATE, FindingKind.LEFT_PREFIX)
        }
        assert by_kind[FindingKind.DUPLICATE] == ["public.w5"]
        # (c desc) and (c nulls first) are each other's backward scan only if both bits differ: they are not duplicates
        assert by_kind[FindingKind.LEFT_PREFIX] == ["public.w2", "public.w8"]
        for finding in health.findings:
            if finding.fix:
                await place.run(finding.fix)  # every proposed statement is accepted by the server as it stands
        after = await read_health(session, SETTINGS)
    assert not [f for f in after.findings if f.kind in by_kind]


async def test_top_statements_are_those_of_the_application(place: Place) -> None:
    await place.run("create table hot (a int)", "insert into hot select generate_series(1, 20000)")
    await busy(place.admin, 20)
    async with place.session() as session:
        await Watcher(SETTINGS).refresh(session)
        top = await top_statements(session, 5)
    assert any(s.sql == "select count(*) from hot where a = $1" and s.calls == 20 for s in top)
    assert not any("indexpilot" in s.sql or s.sql.startswith("create") for s in top)
    assert sum(s.share for s in top) <= 1 + 1e-9


async def test_the_interval_widens_with_the_budget(place: Place) -> None:
    stingy = Settings(observe=Observe(server_ms_per_minute_budget=0.5))
    async with place.session() as session:
        usual, wide = Watcher(SETTINGS), Watcher(stingy)
        for watcher in (usual, wide):
            for _ in range(4):
                await watcher.refresh(session)
    assert usual.next_delay == SETTINGS.observe.interval_seconds
    assert wide.next_delay > 2 * stingy.observe.interval_seconds


async def test_plans_on_demand_are_at_values_of_the_parameters_and_execute_nothing(place: Place) -> None:
    await place.run(
        "create table hot (a int, b text)", "insert into hot select case when i < 900 then 1 else i end, 'x' from generate_series(1, 1000) i",
        "create index on hot (a)", "analyze hot",
        "create function mine(int) returns int language sql immutable as 'select 1'",
        f"create role author_{place.dbname}", f"alter function mine(int) owner to author_{place.dbname}",
    )  # fmt: skip
    reader = await place.role("mon", "pg_monitor", "pg_read_all_data")
    async with planning_session(socket_target(place.cluster, place.dbname, reader), SETTINGS) as session:
        found, why = await read_plans(session, "select * from public.hot where a = $1")
        assert why == ""
        assert found[0][0] == "generic plan: for any values"
        assert "$1 = 1" in [label for label, _ in found]
        kinds = {label: plan["Node Type"] for label, plan in found}
        assert kinds["$1 = 1"] == "Seq Scan"
        assert await read_plans(session, "delete from public.hot where a = $1") == (
            (), "only statements that read are planned on the target",
        )  # fmt: skip
        assert "code of others" in (await read_plans(session, "select public.mine(a) from public.hot"))[1]
        assert (await read_plans(session, "select * from public.gone"))[1] != ""


async def test_a_text_that_was_not_asked_for_yet_is_not_called_gone(place: Place) -> None:
    await place.run("create table t (a int)")
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        await watcher.refresh(session)
        watcher._texts.pace.due = float("inf")  # texts are asked for at a pace of their own
        watcher._texts._hurried.extend([(float("inf"), 1e9)] * HURRIED)
        await place.run("select count(*) from t")
        seen = [i.query for i in (await watcher.refresh(session)).hotspots.items]
        assert seen
        assert set(seen) == {"(text not read yet)"}
        for _ in range(20):
            watcher._texts.pace.due = 0.0
            await place.run("select count(*) from t")
            read = [i.query for i in (await watcher.refresh(session)).hotspots.items]
            if any("from t" in query for query in read):
                break
            await asyncio.sleep(0.05)
        assert any("from t" in query for query in read), read
