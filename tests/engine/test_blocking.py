"""Who blocks whom on real servers, as a plain pg_monitor sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from indexpilot_tui.engine.observe.blocking_read import BlockingReader
from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import Place, make_place


@pytest.fixture(params=["cluster18", "cluster15"])
def locked_server(request: pytest.FixtureRequest) -> LocalCluster:
    cluster: LocalCluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture
async def place(locked_server: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(locked_server) as made:
        yield made


async def test_a_chain_behind_an_idle_transaction_and_one_behind_a_prepared_one(place: Place) -> None:
    await place.run("create table t (a int primary key)", "create table u (a int)", "insert into t values (1)")
    await place.run("begin", "lock table u", "prepare transaction 'it''s'")
    monitor = await place.role("mon", "pg_monitor")
    idle, deploy, reader, fourth = [await place.connection() for _ in range(4)]
    await idle.execute("begin isolation level repeatable read")
    await idle.execute("select * from t for update")
    waiting = [asyncio.create_task(deploy.execute("alter table t add column b int"))]
    await asyncio.sleep(0.2)
    waiting += [
        asyncio.create_task(reader.execute("select * from t")),
        asyncio.create_task(fourth.execute("select * from u")),
    ]
    await asyncio.sleep(0.3)
    look = BlockingReader()
    try:
        async with place.session(monitor) as session:
            seen = await look.read(session)
            assert look.asker.take_tally().round_trips == 1
        mine = [b for b in seen.tree if b.session.database == place.dbname]
        at = {b.session.pid: b for b in mine}
        root = at[idle.info.backend_pid]
        assert (root.depth, root.frees) == (0, 2)
        assert "COMMIT or ROLLBACK" in root.remedy
        assert "public.t" in root.holds
        second, third = at[deploy.info.backend_pid], at[reader.info.backend_pid]
        assert (second.depth, second.wants) == (1, "AccessExclusiveLock on public.t")
        assert (third.depth, third.wants) == (2, "AccessShareLock on public.t")
        assert third.waits_s is not None
        assert 0.1 < third.waits_s < 30
        prepared = next(b for b in mine if b.session.prepared)
        assert (prepared.depth, prepared.frees) == (0, 1)
        assert "ROLLBACK PREPARED 'it''s'" in prepared.remedy
        assert at[fourth.info.backend_pid].depth == 1
        assert (seen.hidden, seen.unread) == (0, ())
        blind = await place.role("blind")
        async with place.session(blind) as session:
            assert (await BlockingReader().read(session)).hidden >= 3
    finally:
        await place.run("rollback prepared 'it''s'")
        await idle.execute("rollback")
        await asyncio.gather(*waiting)
        for conn in (idle, deploy, reader, fourth):
            await conn.close()
    async with place.session(monitor) as session:
        assert [b for b in (await look.read(session)).tree if b.session.database == place.dbname] == []
