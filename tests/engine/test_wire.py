"""The short way of asking, on a real server: answers, refusals, and what a cancelled question leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from indexpilot_tui.engine.whatif.advise.lane import Told
from indexpilot_tui.engine.whatif.wire import Wire
from indexpilot_tui.localpg import LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def conn(cluster18: LocalCluster) -> AsyncIterator[AsyncConnection[TupleRow]]:
    made = await AsyncConnection.connect(cluster18.conninfo(), autocommit=True, prepare_threshold=None)
    yield made
    await made.close()


async def test_answers_and_refusals(conn: AsyncConnection[TupleRow]) -> None:
    wire = Wire(conn)
    assert await wire.ask(b"select $1::int + $2::int", (b"40", b"2")) == b"42"
    assert await wire.ask(b"select $1::int + $2::int", (b"1", b"2")) == b"3"
    assert await wire.ask(b"select 1 where false") is None
    with pytest.raises(psycopg.errors.UndefinedColumn, match="nowhere"):
        await wire.ask(b"select nowhere")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await wire.ask(b"select 1 / $1::int", (b"0",))
    with pytest.raises(psycopg.errors.SyntaxError):  # one statement and no more
        await wire.ask(b"select 1; select 2")
    assert await wire.simple(b"select 7") == b"7"
    assert len(await wire.ask(b"select '" + b"x" * 3_000_000 + b"'") or b"") == 3_000_000
    await wire.close()
    assert await (await conn.execute("select count(*) from pg_prepared_statements")).fetchone() == (0,)
    assert await wire.ask(b"select $1::int + $2::int", (b"1", b"2")) == b"3"
    await wire.close()


async def test_a_cancelled_question_leaves_the_session_free(conn: AsyncConnection[TupleRow]) -> None:
    wire = Wire(conn)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await wire.ask(b"select pg_sleep(60)")
    assert time.monotonic() - started < 10
    assert await wire.ask(b"select 5") == b"5"
    assert await (await conn.execute("select 6")).fetchone() == (6,)
    await wire.close()


async def test_a_session_that_ends_is_an_operational_error(cluster18: LocalCluster) -> None:
    async with await AsyncConnection.connect(cluster18.conninfo(), autocommit=True) as conn:
        wire = Wire(conn)
        with pytest.raises(psycopg.OperationalError):
            await wire.ask(b"select pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(psycopg.OperationalError):
            await wire.ask(b"select 1")


async def test_names_are_those_of_the_plan_and_not_of_its_texts(conn: AsyncConnection[TupleRow]) -> None:
    name, text = 'we"ird \\ é', '"Index Name": "no", "Total Cost": 1'
    await conn.execute("create temp table told (a text)")
    await conn.execute(psycopg.sql.SQL("create index {} on told (a)").format(psycopg.sql.Identifier(name)))
    await conn.execute("set enable_seqscan = off; set enable_bitmapscan = off")
    wire = Wire(conn)
    query = psycopg.sql.SQL("explain (format json) select a from told where a = {}").format(text).as_bytes(conn)
    told = Told(await wire.ask(query))
    plan = told.plan()
    assert told.names() == {name} == {plan["Index Name"]}
    assert told.cost == plan["Total Cost"]
    assert text in plan["Index Cond"]
    with pytest.raises(psycopg.DataError):
        Told(None)
