"""Index health on real servers: what standbys say, what a drop would save, ON CONFLICT, bloat against pgstattuple, small rereads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from indexpilot_tui.engine.bloat import counted, modelled
from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows
from indexpilot_tui.engine.observe.health import health_from, read_health, read_known
from indexpilot_tui.engine.observe.indexes.reader import CHUNK, State, ranges
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding, IndexHealth
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.session import Purpose, Session, session
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings, Target
from tests.engine.observe_room import SETTINGS, Place, make_place
from tests.servers import DEBIAN_15, require
from tests.standby import Standby, standby_of


@pytest.fixture(scope="module", params=["18", "15"])
def health_server(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    if request.param == "15":
        require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
    bindir = DEBIAN_15 if request.param == "15" else None
    cluster = asyncio.run(LocalCluster.start("health", settings=settings, bindir=bindir))
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture
async def place(health_server: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(health_server) as made:
        yield made


@pytest.fixture(scope="module")
def standby(health_server: LocalCluster) -> Iterator[Standby]:
    with standby_of(health_server) as made:
        yield made


def of_kind(health: IndexHealth, kind: FindingKind) -> dict[str, HealthFinding]:
    return {f.index.split(".", 1)[1]: f for f in health.findings if f.kind is kind}


@dataclass
class Remembering(Asker):
    """Knows what it asked."""

    names: list[str] = field(default_factory=list)

    async def ask(self, session: Session, questions: Sequence[Question]) -> dict[str, Rows | Refusal]:
        self.names += [q.name for q in questions]
        return await Asker.ask(self, session, questions)


async def reset_long_ago(place: Place) -> None:
    """A window of statistics that is old enough: the settings of these tests ask for no age at all."""
    await place.run("select pg_stat_reset()")


async def test_an_index_that_a_standby_uses_is_not_unused(place: Place, standby: Standby) -> None:
    await place.run(
        "create table t (a int, b int)", "insert into t select i, i from generate_series(1, 5000) i",
        "create index t_a on t (a)", "create index t_b on t (b)", "analyze t",
    )  # fmt: skip
    await reset_long_ago(place)
    standby.caught_up()
    with standby.connect(place.dbname) as conn:
        for _ in range(3):
            conn.execute("select * from t where a = 7")
        conn.execute("select pg_sleep(1.2)")
        conn.execute("select 1")
    known = Target(name="s1", environment="development", dsn=standby.conninfo(place.dbname))
    gone = Target(
        name="s2", environment="development", dsn=standby.conninfo(place.dbname).replace(str(standby.root), "/nowhere")
    )
    other = Target(name="s3", environment="development", dsn=place.cluster.conninfo(place.dbname))

    async def health(*standbys: str) -> IndexHealth:
        target = place.target(standbys=standbys)
        settings = Settings(targets={t.name: t for t in (known, gone, other)}, observe=Observe(unused_min_age_days=0))
        async with place.session() as session:
            return await read_health(session, settings, target=target)

    not_asked = of_kind(await health(), FindingKind.UNUSED)
    assert set(not_asked) == {"t_a", "t_b"}
    assert all(f.fix == "" and "connected standbys were not asked" in f.evidence for f in not_asked.values())
    asked = of_kind(await health("s1"), FindingKind.UNUSED)
    assert set(asked) == {"t_b"}
    if place.cluster.version >= 150000 and "could not" not in asked["t_b"].evidence and "only" not in asked["t_b"].evidence:
        assert asked["t_b"].fix == 'DROP INDEX CONCURRENTLY "public"."t_b"'
        assert "none on the standby s1" in asked["t_b"].evidence
    for name, why in (("s2", "could not be asked"), ("s3", "it is no standby of this server")):
        unreachable = await health(name)
        assert all(f.fix == "" for f in of_kind(unreachable, FindingKind.UNUSED).values())
        assert why in of_kind(unreachable, FindingKind.UNUSED)["t_b"].evidence
        assert any(why in note for note in unreachable.notes)


async def test_a_standby_is_looked_at_as_pg_monitor(place: Place, standby: Standby) -> None:
    await place.run("create table t (a int)", "create index t_a on t (a)", "create table hot (a int)", "analyze")
    monitor = await place.role("mon", "pg_monitor")
    standby.caught_up()
    target = Target(name="s1", environment="development", dsn=standby.conninfo(place.dbname, monitor))
    watcher = Watcher(SETTINGS)
    async with session(target, Purpose.MONITOR, SETTINGS) as s:
        await watcher.refresh(s)
        with standby.connect(place.dbname) as conn:
            conn.execute("select count(*) from hot where a = 1")
        for _ in range(30):
            seen = await watcher.refresh(s)
            if any("from hot" in h.query for h in seen.hotspots.items):
                break
            await asyncio.sleep(0.05)
    assert (seen.error, seen.refused) == ("", ())
    assert any("from hot" in h.query for h in seen.hotspots.items)
    assert seen.activity.active_backends is not None
    assert seen.health is not None
    assert any("this is a standby" in note for note in seen.health.notes)
    unused = of_kind(seen.health, FindingKind.UNUSED)["t_a"]
    assert unused.fix == ""  # what the primary scans is not seen from here
    assert "on this standby" in unused.evidence or "too short" in unused.evidence
    assert seen.signals is not None
    assert seen.signals.replication is not None
    assert seen.signals.replication.replay_bytes is not None


async def test_what_a_fix_would_save(place: Place) -> None:
    await place.run(
        "create table t (id int primary key, a int, b int)", "create index t_a on t (a)", "create index t_a2 on t (a)",
        "create index t_b on t (b) where b < 10",
    )  # fmt: skip
    await reset_long_ago(place)
    await asyncio.sleep(1)
    await place.run("insert into t select i, i, i % 100 from generate_series(1, 1000) i", "analyze t")
    await asyncio.sleep(1.1)
    await place.run("select 1")
    async with place.session() as session:
        health = await read_health(session, SETTINGS)
    double = of_kind(health, FindingKind.DUPLICATE)["t_a2"]
    assert double.saves_bytes == double.size_bytes
    assert double.saves_writes_per_s is not None
    partial = of_kind(health, FindingKind.UNUSED)["t_b"]
    assert partial.saves_writes_per_s == pytest.approx(double.saves_writes_per_s / 10, rel=0.2)
    assert 50 < double.saves_writes_per_s < 2000  # a thousand rows in the seconds since the reset


async def test_statements_with_on_conflict_are_named(place: Place) -> None:
    await place.run(
        'create table "Odd t" (id int primary key, "A" int)', 'create unique index odd_id on "Odd t" (id)',
        'insert into "Odd t" values (1, 1) on conflict (id) do nothing',
        'insert into "Odd t" as o values (1, 2) on conflict (id) do update set "A" = o."A" + 1',
    )  # fmt: skip
    async with place.session() as session:
        health = await read_health(session, SETTINGS)
    double = of_kind(health, FindingKind.DUPLICATE)["odd_id"]
    assert "keeps the same columns unique" in double.evidence
    assert "2 statements with ON CONFLICT on this table find the other one" in double.evidence
    await place.run(double.fix, 'insert into "Odd t" values (1, 1) on conflict (id) do nothing')


async def test_only_what_changed_is_read_again(place: Place) -> None:
    await place.run(
        "create table t (a int, b int)", "create index t_a on t (a)", "create table u (a int)", "create index u_a on u (a)"
    )
    async with place.session() as session:
        asker = Remembering()
        known = await read_known(session, SETTINGS, asker)
        assert {f.name for f in known.indexes.values()} == {"t_a", "u_a"}
        asker.names.clear()
        await read_known(session, SETTINGS, asker, known)
        assert "index_state" in asker.names
        assert "indexes" not in asker.names
        await place.run("alter index t_a rename to t_new", "create index u_a2 on u (a)", "select * from t where a = 1")
        await read_known(session, SETTINGS, asker, known)
        assert asker.names.count("indexes") == 1
        assert {f.name for f in known.indexes.values()} == {"t_new", "u_a", "u_a2"}
        kinds = {f.index: f.kind for f in health_from(known, SETTINGS).findings}
        assert kinds["public.u_a2"] is FindingKind.DUPLICATE
        await place.run("drop index u_a2", "drop table t")
        await read_known(session, SETTINGS, asker, known)
        assert {f.name for f in known.indexes.values()} == {"u_a"}
        await place.run("create table p (id int primary key)", "alter table u add foreign key (a) references p")
        await read_known(session, SETTINGS, asker, known)
        assert FindingKind.MISSING_FK not in {f.kind for f in health_from(known, SETTINGS).findings}
        await place.run("drop index u_a")  # which served the key: it is told in the same reading
        await read_known(session, SETTINGS, asker, known)
        assert FindingKind.MISSING_FK in {f.kind for f in health_from(known, SETTINGS).findings}


async def test_bloat_is_what_pgstattuple_counts(place: Place) -> None:
    await place.run(
        "create extension pgstattuple", "create table t (id bigint, name text, kind int, t timestamptz)",
        "insert into t select i, md5(i::text), i % 50, now() - i * interval '1 minute' from generate_series(1, 300000) i",
        "create index t_id on t (id)", "create index t_name on t (name)", "create index t_kind on t (kind, t)",
        "create index t_lower on t (lower(name)) where kind < 25", "vacuum analyze t",
    )  # fmt: skip
    async with place.session() as session:

        async def both() -> dict[str, tuple[float, float]]:
            known = await read_known(session, SETTINGS, Asker())
            facts = list(known.indexes.values())
            estimates = await modelled(session, facts)
            found = {}
            for f in facts:
                exact = await counted(session, f)
                assert exact.share is not None, exact.reason
                estimate = estimates[f.oid]
                assert estimate.share is not None, estimate.reason
                assert estimate.least_share is not None
                found[f.name] = (estimate.share, exact.share)
            return found

        fresh = await both()
        assert all(share < 0.12 for share, _ in fresh.values()), fresh
        assert all(share < 0.05 for _, share in fresh.values()), fresh
        await place.run("delete from t where id % 10 > 2", "vacuum analyze t")
        bloated = await both()
    for name, (estimate, exact) in bloated.items():
        assert estimate == pytest.approx(exact, abs=0.12), (name, bloated)
        assert estimate > 0.5
    print(fresh, bloated)


async def test_bloat_says_why_it_is_not_measured(place: Place) -> None:
    await place.run(
        "create schema closed", "create table closed.t (a text)", "insert into closed.t select md5(i::text) from generate_series(1, 9000) i",
        "create index t_a on closed.t (a)", "create index t_h on closed.t using hash (a)", "analyze closed.t",
    )  # fmt: skip
    monitor = await place.role("mon", "pg_monitor")
    async with place.session(monitor) as session:
        known = await read_known(session, SETTINGS, Asker())
        by_name = {f.name: f for f in known.indexes.values()}
        estimates = {f.name: (await modelled(session, [f]))[f.oid] for f in known.indexes.values()}
        assert "GRANT pg_read_all_data" in estimates["t_a"].in_words()
        assert estimates["t_a"].in_words().startswith("not measured")
        assert "hash" in estimates["t_h"].in_words()
        exact = await counted(session, by_name["t_a"])
        assert "CREATE EXTENSION pgstattuple" in exact.reason
        await place.run("create extension pgstattuple")
        exact = await counted(session, by_name["t_a"])
        assert exact.share == pytest.approx(0, abs=0.05)  # pg_monitor has pg_stat_scan_tables
    blind = await place.role("blind")
    async with place.session(blind) as session:
        exact = await counted(session, by_name["t_a"])
        assert "GRANT pg_stat_scan_tables" in exact.reason


async def test_the_engine_finds_bloat_by_itself(place: Place) -> None:
    await place.run(
        "create table t (id bigint)", "insert into t select i from generate_series(1, 1000000) i", "create index t_id on t (id)",
        "delete from t where id % 10 > 1", "vacuum analyze t",
    )  # fmt: skip
    engine = await Engine.open(place.target(), SETTINGS)
    try:
        await engine.observe()
        engine._aside._bloat_due = 0.0
        for _ in range(50):
            seen = await engine.observe()
            assert seen.health is not None
            found = of_kind(seen.health, FindingKind.BLOATED)
            if found:
                break
            await asyncio.sleep(0.2)
    finally:
        await engine.close()
    assert found["t_id"].fix == 'REINDEX INDEX CONCURRENTLY "public"."t_id"'
    assert found["t_id"].saves_bytes is not None
    assert found["t_id"].saves_bytes > 10_000_000
    assert "±15%" in found["t_id"].evidence


def test_ranges_hold_what_is_wanted_and_are_not_too_large() -> None:
    states = [State(oid, 10_000 + oid // 4, 0, 0, None) for oid in range(20_000)]
    every = ranges(states, {s.table_oid for s in states})
    assert every[0][0] == 10_000
    assert every[-1][1] == 10_000 + 19_999 // 4
    assert len(every) == pytest.approx(20_000 / CHUNK, abs=1)
    assert all(b >= a for a, b in every)
    assert all(later[0] > earlier[1] for earlier, later in pairwise(every))
    assert ranges(states, {10_002}) == [(10_002, 10_002)]
    assert ranges(states, {10_000, 10_003}) == [(10_000, 10_003)]
    assert ranges(states, {10_000, 12_000}) == [(10_000, 10_000), (12_000, 12_000)]
    assert ranges(states, set()) == []


async def test_a_build_in_the_last_phase_is_no_leftover(place: Place) -> None:
    """The state of a build is seen without reading its definition again."""
    await place.run("create table t (a int)", "create index t_a on t (a)")
    blocker = await place.connection()
    await blocker.execute("begin isolation level repeatable read")
    await blocker.execute("insert into t values (1)")
    builder = await place.connection()
    build = asyncio.create_task(builder.execute("create index concurrently t_b on t (a)"))
    await asyncio.sleep(0.5)
    async with place.session() as session:
        health = await read_health(session, SETTINGS)
        assert [f.kind for f in health.findings if f.index == "public.t_b"] == [FindingKind.BUILDING]
    await blocker.execute("commit")
    await build
    for conn in (blocker, builder):
        await conn.close()
