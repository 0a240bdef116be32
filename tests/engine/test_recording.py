"""What an operating console keeps of what it saw: one console writes a window, no literal gets in, retention takes it out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.postgres.literals import without_literals
from indexpilot_tui.engine.recording import Recorder
from indexpilot_tui.settings.model import Recording, Settings
from tests.engine.journal_room import Room
from tests.faults.workshop import Workshop, make_workshop
from tests.tui import sample

pytest_plugins = ["tests.engine.journal_fixtures"]

SECRET = "S3cretLiteral4711"


class Notebook:
    """Stands in for the journal of a pure test: what would be written."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, datetime, datetime, list[dict[str, Any]]]] = []
        self.may_operate = True
        self.session = self
        self.closed = False

    async def record(self, what: str, facts: Any, since: datetime, until: datetime, rows: list[dict[str, Any]]) -> int:
        self.kept.append((what, since, until, rows))
        return len(rows)


def observation(at: datetime, **changed: Any) -> Any:
    from dataclasses import replace

    seen = sample.observation()
    health = replace(seen.health, read_at=at) if seen.health else None
    return replace(seen, at=at, health=health, hotspots=replace(seen.hotspots, read_at=at), **changed)


async def test_a_window_is_the_sum_of_its_intervals() -> None:
    recorder, notebook = Recorder(Recording(query_stats_seconds=10, index_health_seconds=3600, statements=3)), Notebook()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(7):
        seen = observation(start + timedelta(seconds=2 * n))
        recorder.add(seen)
        recorder.add(seen)  # the same reading again adds nothing
        recorder.add(observation(start + timedelta(seconds=2 * n), error="gone"))
        await recorder.write(notebook, None, seen)  # type: ignore[arg-type]
    health, stats = notebook.kept
    assert (health[0], len(health[3])) == ("index_health", 4)
    assert stats[:3] == ("query_stats", start - timedelta(seconds=2), start + timedelta(seconds=8))
    rows = stats[3]
    assert len(rows) == 3
    first = sample.observation().hotspots.items[0]
    busiest = next(row for row in rows if row["queryid"] == first.queryid)
    assert busiest["calls"] == first.calls_per_s * 10
    assert abs(busiest["total_ms"] - first.ms_per_s * 10) < 1e-6
    assert [row["total_ms"] for row in rows] == sorted((row["total_ms"] for row in rows), reverse=True)


async def test_a_console_that_may_not_write_keeps_nothing_and_does_not_grow() -> None:
    recorder, notebook = Recorder(Recording(query_stats_seconds=10)), Notebook()
    notebook.may_operate = False
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(20):
        seen = observation(start + timedelta(seconds=2 * n))
        recorder.add(seen)
        await recorder.write(notebook, None, seen)  # type: ignore[arg-type]
    assert notebook.kept == []
    off = Recorder(Recording(enabled=False))
    off.add(observation(start))
    await off.write(Notebook(), None, observation(start))  # type: ignore[arg-type]


def test_only_statements_without_their_literals() -> None:
    kept = {
        "select * from t where a = $1": "select * from t where a = $1",
        "(select $1) union select $2": "(select $1) union select $2",
        f"update t set a = '{SECRET}' where b = 4711": "update t set a = $1 where b = $2",
        f"/* {SECRET} */ select $1 -- {SECRET}": "select $1",
        f"select 'ä' /* {SECRET} ü */, b /* '{SECRET}' */ from t": "select $1  , b   from t",
        "select interval $1": "select interval $1",
    }
    for text, left in kept.items():
        assert without_literals(text) == left
    for text in (f"alter role x password '{SECRET}'", f"create user mapping for x options (password '{SECRET}')",
                 f"/* select */ alter role x password '{SECRET}'", f"select '{SECRET}", f"select 1 /* {SECRET}",
                 f"copy t from program '{SECRET}'", "<insufficient privilege>"):  # fmt: skip
        assert without_literals(text) is None, text


async def test_of_two_consoles_one_writes(room: Room) -> None:
    alice, olga = await room.journal("j_alice"), await room.journal("j_olga")
    now = await alice.session.value("select pg_catalog.clock_timestamp()")
    row = {"queryid": -5, "user": "app", "query": "select $1", "calls": 3.0, "total_ms": 1.5, "rows": 3.0, "wal_bytes": 0.0}

    def window(minutes: int) -> tuple[datetime, datetime]:
        return now + timedelta(minutes=minutes), now + timedelta(minutes=minutes + 5)

    results = await asyncio.gather(
        *(j.record("query_stats", j.session.facts, *window(0), [row]) for j in (alice, olga) for _ in range(5))
    )
    assert sorted(results) == [0] * 9 + [1]
    assert await olga.record("query_stats", olga.session.facts, *window(4), [row]) == 0  # overlaps
    assert await olga.record("query_stats", olga.session.facts, *window(5), [row] * 150) == 100
    with room.admin() as conn:
        conn.execute(
            "update indexpilot.query_stats set ended_at = ended_at - interval '100 d', began_at = began_at - interval '100 d'"
        )
    assert await alice.prune("query_stats", 101, 60) == 0
    assert [await alice.prune("query_stats", 90, 60) for _ in range(3)] == [60, 41, 0]
    finding = {"kind": "unused", "severity": "info", "index_oid": 5, "index": "a.b", "table": "a.c", "size_bytes": None,
               "scans": None, "evidence": "x"}  # fmt: skip
    assert await alice.record("index_health", alice.session.facts, *window(0), [finding]) == 1
    with room.admin() as conn:
        conn.execute("update indexpilot.index_health set at = at - interval '200 days'")
    assert await alice.prune("index_health", 180) == 1
    mona = await room.journal("j_mona")
    assert mona.may_operate is False


async def test_an_operating_console_on_a_real_server(cluster18: Any) -> None:
    async with make_workshop(cluster18) as workshop:
        # shorter than what can be configured
        often = replace(Recording(), query_stats_seconds=0.5, index_health_seconds=0.5)
        observe = replace(workshop.settings.observe, interval_seconds=0.2, server_ms_per_minute_budget=60_000)
        operational = replace(workshop.settings.operational, recording=often)
        settings = replace(workshop.settings, observe=observe, operational=operational)
        workshop.sql("create index twin_a on app.t (w)")
        workshop.sql("create index twin_b on app.t (w)")
        await _watch(workshop, settings, operate=False)
        assert workshop.sql("select count(*)::int from indexpilot.recordings") == [(0,)]
        await _watch(workshop, settings, operate=True)
        rows = workshop.sql("select query, calls, total_ms, user_name, recorded_by from indexpilot.query_stats")
        assert sum(float(str(calls)) for query, calls, *_ in rows if "app.t" in str(query)) >= 3, rows
        assert {row[4] for row in rows} == {"w_operator"}
        assert SECRET not in str(rows)
        found = workshop.sql("select kind, index_name from indexpilot.index_health")
        assert any("twin_" in str(name) for _, name in found), found


RECORDED = "select coalesce(sum(calls), 0) >= 3 from indexpilot.query_stats where query ~ 'app.t'"


async def _watch(workshop: Workshop, settings: Settings, *, operate: bool) -> None:
    engine = await Engine.open(workshop.target, settings, operate=operate)
    try:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            for n in range(40):
                conn.execute(f"select count(*) from app.t where w = '{SECRET}'".encode())
                conn.execute(f"alter role w_owner password '{SECRET}'".encode())
                await engine.observe()
                await asyncio.sleep(0.2)
                if n >= 8 and (not operate or workshop.sql(RECORDED) == [(True,)]):
                    break
    finally:
        await engine.close()
