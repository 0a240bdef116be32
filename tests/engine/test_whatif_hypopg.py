"""The second backend: HypoPG on the target, where it is, behind the same interface, and as the cross-check of the shadow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import LocalServerError, NotInstalledError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.bench.tpch_server import DEBIAN_15
from tests.conftest import socket_target
from tests.servers import require

pytestmark = pytest.mark.asyncio(loop_scope="module")
HYPOPG = Path("/usr/share/postgresql/15/extension/hypopg.control")
QUERIES = [
    Statement("1", "select * from t where b = 7", 1.0), Statement("2", "select * from t where b = $1 and a < $2", 1.0),
    Statement("3", "update t set a = a + 1 where b = 9", 1.0), Statement("4", "select f(a) from t where b = 3", 1.0),
    Statement("5", "select * from t where c like '100%' and b <> 1", 1.0), Statement("6", "vacuum t", 1.0),
]  # fmt: skip


@dataclass
class Place:
    session: Session
    owner: psycopg.Connection[Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    require(HYPOPG.exists(), "HypoPG for PostgreSQL 15")
    async with await LocalCluster.start("hypo", bindir=DEBIAN_15, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as owner:
            owner.execute("create extension hypopg")
            owner.execute("create function f(int) returns int immutable language sql as 'select $1'")
            owner.execute("create table t as select g as a, g % 5000 as b, g::text as c from generate_series(1, 60000) g")
            owner.execute("vacuum analyze t")
            # EXPLAIN of an UPDATE asks for the right to update; nothing is
            owner.execute("create role looker login; grant select, update on t to looker")
            session = await connect(socket_target(cluster, "postgres", planner="looker"), Purpose.MONITOR, Settings())
            try:
                yield Place(session, owner)
            finally:
                await session.close()


async def test_hypopg_answers_behind_the_same_interface_and_leaves_nothing(place: Place) -> None:
    simulator = Simulator()
    try:
        ours = await simulator.simulate(place.session, "create index on t (b)", QUERIES, cross_check=True)
        theirs = await simulator.simulate(place.session, "create index on t (b)", QUERIES, backend="hypopg")
    finally:
        await simulator.close()
    assert (ours.backend, theirs.backend) == ("shadow", "hypopg")
    assert [x.key for x in theirs.left_out] == ["6"]
    by_key = {q.queryid: q for q in theirs.queries}
    for q in ours.queries:
        assert q.cost_before == pytest.approx(by_key[q.queryid].cost_before, rel=1e-6)
        assert q.uses_index == by_key[q.queryid].uses_index
        assert q.cost_after == pytest.approx(by_key[q.queryid].cost_after, rel=0.01)
    assert "4" in {x.key for x in ours.left_out} | {q.queryid for q in ours.queries}
    assert "4" in by_key  # the target has its own functions
    assert any(n.startswith("cross-check: HypoPG on the target planned") for n in ours.notes)
    assert any("deduplication" in r for r in theirs.confidence.reasons)
    row = place.owner.execute("select pg_relation_size('t')").fetchone()
    assert row is not None
    assert await place.session.value("select count(*) from public.hypopg()") == 0
    assert await place.session.value("select count(*) from pg_prepared_statements") == 0
    assert await place.session.value("select current_setting('plan_cache_mode')") == "auto"


async def test_hypopg_says_what_it_cannot_do(place: Place) -> None:
    simulator = Simulator()
    try:
        with pytest.raises(UsageError, match="HypoPG cannot do this"):
            await simulator.simulate(place.session, "create index on t using gin (c x_ops)", QUERIES, backend="hypopg")
        assert await place.session.value("select count(*) from public.hypopg()") == 0
    finally:
        await simulator.close()


async def test_without_a_shadow_the_target_is_asked_if_it_can(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_server(*_: object, **__: object) -> LocalCluster:
        raise LocalServerError("a local PostgreSQL could not be initialised: the disk is full")

    monkeypatch.setattr("indexpilot_tui.engine.whatif.shadow.LocalCluster.start", no_server)
    simulator = Simulator()
    forecast = await simulator.simulate(place.session, "create index on t (b)", QUERIES)
    assert forecast.backend == "hypopg"
    assert "the disk is full" in forecast.confidence.reasons[0]
    place.owner.execute("drop extension hypopg")
    try:
        with pytest.raises(LocalServerError, match="disk is full"):
            await simulator.simulate(place.session, "create index on t (b)", QUERIES)
        with pytest.raises(NotInstalledError, match="HypoPG is not installed"):
            await simulator.simulate(place.session, "create index on t (b)", QUERIES, backend="hypopg")
    finally:
        place.owner.execute("create extension hypopg")
        await simulator.close()
