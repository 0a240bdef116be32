"""Texts of statements: with the next refresh, within one round trip of four statements; and those of a server on which a
database of another encoding keeps the others' texts from being read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.observe.hotspots import UNREAD
from indexpilot_tui.engine.observe.model import Observation
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.observe.source import Source
from indexpilot_tui.engine.observe.texts import HURRIED, HURRIED_S, TextWish
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings
from tests.engine.observe_room import SETTINGS, Place, make_place
from tests.faults.scenes import refused
from tests.faults.workshop import make_workshop

MEAN = Settings(observe=Observe(server_ms_per_minute_budget=60))


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def place(cluster18: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(cluster18) as made:
        yield made


@pytest.fixture
async def any_byte(cluster18: LocalCluster) -> AsyncIterator[str]:
    """A SQL_ASCII database with a statement that is no UTF-8, whose text every other database of the server stumbles on."""
    name = sql.Identifier("any_byte")
    async with await psycopg.AsyncConnection.connect(cluster18.conninfo(), autocommit=True) as conn:
        await conn.execute(
            sql.SQL(
                "create database {} encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0 locale_provider libc"
            ).format(name)
        )
        async with await psycopg.AsyncConnection.connect(
            cluster18.conninfo("any_byte", client_encoding="SQL_ASCII"), autocommit=True
        ) as theirs:
            await theirs.execute(b'create table t (a int); select a as "caf\xe9" from t')
        yield "any_byte"
        await conn.execute(
            "select public.pg_stat_statements_reset(0, (select oid from pg_database where datname = 'any_byte'), 0)"
            if await _has_extension(conn)
            else "select 1"
        )
        await conn.execute(sql.SQL("drop database {} with (force)").format(name))


async def _has_extension(conn: psycopg.AsyncConnection[tuple[object, ...]]) -> bool:
    await conn.execute("create extension if not exists pg_stat_statements schema public")
    return True


def shown(observation: Observation) -> dict[str, float]:
    return {i.query: i.calls_per_s for i in observation.hotspots.items}


async def test_a_new_statement_has_its_text_with_the_next_refresh(place: Place) -> None:
    """Ahead of the pace, that the budget would make slow; and no refresh takes more than its one round trip."""
    await place.run("create table t (a int)")
    watcher = Watcher(MEAN)
    async with place.session(settings=MEAN) as session:
        await place.run("select a from t")
        await watcher.refresh(session)
        await place.run("select a from t")
        watcher._counters_pace.due = 0.0
        assert "select a from t" in shown(await watcher.refresh(session))  # nothing else had a text: it had its own at once
        watcher._texts.pace.due = float("inf")
        await place.run("alter table t add column c int", "select c from t", "select a from t")
        watcher._counters_pace.due = 0.0
        first = await watcher.refresh(session)
        assert UNREAD in shown(first)
        assert "select c from t" not in shown(first)
        watcher._texts.pace.due = float("inf")
        watcher._texts._hurried.clear()  # what was dear on a busy machine is not what this is about
        watcher._counters_pace.due = 0.0
        await place.run("select c from t")
        second = await watcher.refresh(session)
        assert "select c from t" in shown(second), (second.error, second.refused)
        for one in (first, second):
            assert one.cost.round_trips == 1, one.cost
            assert one.cost.statements <= 4, one.cost


def hurried(ms: float, seconds: int = 60) -> int:
    """How often texts are asked for in this time, where every refresh shows something new and each asking costs so much."""
    wish, asked = TextWish(60.0, [1], True), 0
    for tick in range(1, seconds):
        if wish.question(Source("public"), 180000, float(tick), None) is not None:
            wish.asked(float(tick), ms)
            asked += 1
    return asked


def test_hurry_is_bounded() -> None:
    assert hurried(0.1) == 59  # what costs nothing is asked for at every refresh
    assert hurried(20.0) <= HURRIED + HURRIED_S / 10 + 1
    wish = TextWish(60.0, [1], False)  # what the server has no text of is asked for at the pace alone
    wish.pace.due = float("inf")
    assert wish.question(Source("public"), 180000, 100.0, None) is None


async def test_bytes_of_another_database_cost_no_counters(place: Place, any_byte: str) -> None:
    """The server gives no text at all then. Counters stay, the reason and a remedy are told, and the texts of statements
    that are at work are taken from the sessions, without their constants."""
    await place.run("create table t (a int)", "insert into t select generate_series(1, 100)")
    watcher = Watcher(SETTINGS)
    app = await place.connection()
    async with place.session() as session:
        await watcher.refresh(session)
        seen = await _until_text(place, watcher, session, app)
    (calls,) = [calls for query, calls in shown(seen).items() if "count(*) from t where a" in query]
    assert calls > 0
    assert not any("42" in query for query in shown(seen))
    assert seen.hotspots.available
    assert any(
        line.startswith("texts: invalid byte sequence") and "pg_stat_statements_reset" in line for line in seen.refused
    )
    await app.close()


async def _until_text(place: Place, watcher: Watcher, session: object, app: psycopg.AsyncConnection[object]) -> Observation:
    for _ in range(20):
        await app.execute("select count(*) from t where a = 42")
        watcher._texts.pace.due = 0.0
        seen = await watcher.refresh(session)  # type: ignore[arg-type]
        assert seen.hotspots.available, seen.hotspots.unavailable
        if any("count(*) from t where a" in query for query in shown(seen)):
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(shown(seen))


async def test_texts_are_back_when_the_bytes_are_forgotten(place: Place, any_byte: str) -> None:
    await place.run("create table t (a int)")
    watcher = Watcher(SETTINGS)
    async with place.session() as session:
        await watcher.refresh(session)
        await place.run(
            f"select pg_stat_statements_reset(0, (select oid from pg_database where datname = '{any_byte}'), 0)",
            "select count(*) from t",
        )
        for refusal in list(watcher._asker.refused):
            watcher._asker.refused.pop(refusal)  # its rest is over
        for _ in range(20):
            watcher._texts.pace.due = 0.0
            await place.run("select count(*) from t")
            seen = await watcher.refresh(session)
            if any("select count(*) from t" in query for query in shown(seen)):
                break
            await asyncio.sleep(0.05)
    assert any("select count(*) from t" in query for query in shown(seen)), shown(seen)
    assert not any(line.startswith("texts") for line in seen.refused)


async def test_a_change_is_refused_with_what_to_do(cluster18: LocalCluster, any_byte: str) -> None:
    """Who writes the table is told by the texts: what could not be read does not let a change start, and says why."""
    async with make_workshop(cluster18) as workshop:
        change_id = await workshop.approved("create index on app.t (v)")
        await workshop.spawn(change_id)
        change = await refused(workshop, change_id)
        assert change.state is State.APPROVED
        told = str(change.events[-1].detail["outcome"])
        assert told.startswith("write_performance unknown: could not be read: the server gives no text"), told
        assert "pg_stat_statements_reset" in told
        workshop.sql(f"select pg_stat_statements_reset(0, (select oid from pg_database where datname = '{any_byte}'), 0)")
        await workshop.spawn(change_id)
        await workshop.until(change_id, State.OBSERVING, State.DONE)
