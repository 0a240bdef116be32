"""A forecast rests on what earlier builds on the same server took, once there is one."""

from __future__ import annotations

import pytest

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from tests.faults.workshop import OPERATOR, OWNER, Workshop, story

BIG = (
    f"set role {OWNER}; create table app.big (id int, v int, w text, note text);"
    " insert into app.big select g, g % 5000, md5(g::text), repeat('x', 60) from generate_series(1, 300000) g; analyze app.big"
)
QUERY = [Statement("1", "select * from app.big where v = 7", 1.0)]


async def forecast(engine: Engine, ddl: str) -> Forecast:
    return await engine.simulate(ddl, QUERY)


async def build(workshop: Workshop, ddl: str) -> float:
    """Build it as a change; seconds from the intent to the outcome, by the log."""
    change_id = await workshop.approved(ddl)
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING, State.DONE)
    at = {e.action: e.at for e in change.events}
    verified = next(e.detail for e in change.events if e.action == "verified")
    assert verified["rows"] == 300_000, story(change)
    assert verified["heap_bytes"] > 20_000_000
    assert verified["partial"] is False
    assert verified["wal_bytes"] > verified["size_bytes"] * 0.5, verified
    assert verified["temp_bytes"] >= 0
    await workshop.until(change_id, State.DONE)
    return (at["ddl.outcome"] - at["ddl.intent"]).total_seconds()


async def test_earlier_builds_tell_how_long_the_next_takes(either: Workshop) -> None:
    either.sql(BIG)
    either.sql(f"grant pg_monitor to {OPERATOR}")
    engine = await Engine.open(either.target, either.settings)
    try:
        before = await forecast(engine, "create index on app.big (v)")
        assert before.index.basis == "general rates (btree: no earlier build of this kind in the journal)"
        await build(either, "create index big_v on app.big (v)")
        (one,) = await either.journal.builds(either.monitor.facts.system_identifier, either.dbname)
        assert (one.method, one.index, one.rows) == ("btree", "big_v", 300_000)
        assert one.seconds > 0.05
        assert one.wal_bytes is not None

        measured = await forecast(engine, "create index on app.big (w)")
        low, high = measured.index.build_seconds
        assert "measured here: 1 earlier btree build, the newest" in measured.index.basis
        assert "MB/s read and written" in measured.index.basis
        assert "rows/s" in measured.index.basis
        assert high / low < before.index.build_seconds[1] / before.index.build_seconds[0]
        assert measured.to_json()["index"]["basis"] == measured.index.basis
        assert measured.index.wal_bytes == pytest.approx(
            measured.index.size_bytes * one.wal_bytes / one.index_bytes, rel=0.01
        )
        # another method has its own rates, and nobody else's
        other = await forecast(engine, "create index on app.big using gin (to_tsvector('simple', w))")
        assert other.index.basis.startswith("general rates (gin")

        real = await build(either, "create index big_w on app.big (w)")
        assert low / 5 < real < high * 5, (low, real, high)  # the machine is not ours alone
        two = await forecast(engine, "create index on app.big (id)")
        assert "2 earlier btree builds" in two.index.basis
        drop = await forecast(engine, "drop index app.big_v")
        assert drop.drop is not None
        assert drop.drop.rebuild is not None
        assert "2 earlier btree builds" in drop.drop.rebuild.basis
        again = await forecast(engine, "reindex index app.big_v")
        assert "2 earlier btree builds" in again.index.basis
    finally:
        await engine.close()


async def test_a_login_without_the_journal_gets_the_general_rates(either: Workshop) -> None:
    either.sql(BIG)
    target = either.cluster.target(either.dbname, "w_stranger")
    with either.admin() as conn:
        if not conn.execute("select 1 from pg_roles where rolname = 'w_stranger'").fetchone():
            either.cluster.login(conn, "w_stranger")
        conn.execute("grant pg_monitor, pg_read_all_data to w_stranger")
    engine = await Engine.open(target, either.settings)
    try:
        found = await forecast(engine, "create index on app.big (v)")
    finally:
        await engine.close()
    assert found.index.basis.startswith("general rates (btree")
