"""What stops a build that does harm: load, CPU, writers, standbys, figures that cannot be read. Each at a build that really
works (an index on a slow expression), and each alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults.scenes import END, LAST_WAIT, OLD_SNAPSHOT, Rival, phase, settings_with
from tests.faults.workshop import OWNER, Workshop, actions, check_intents, make_workshop, story
from tests.standby import standby_of

DDL = "create index on app.t (app.slow(v))"
# each row takes a moment, so the build works for some ten seconds; and not for its own sessions alone
SLOW = f"""set role {OWNER};
create function app.slow(v int) returns int language plpgsql immutable as $$ begin perform pg_sleep(0.0005); return v; end $$"""


async def at_work(workshop: Workshop, **sections: dict[str, Any]) -> int:
    """A build in its working phase."""
    workshop.sql(SLOW)
    quick = {"critical_load": {"interval_seconds": 0.4}, "observer": {"max_attempts": 1}}
    settings_with(workshop, **{k: quick.get(k, {}) | sections.get(k, {}) for k in {*quick, *sections}})
    change_id = await workshop.approved(DDL)
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    await phase(workshop, "building index: scanning table", change_id)
    return change_id


async def stopped_by(workshop: Workshop, change_id: int) -> dict[str, Any]:
    """Which guard stopped it, from the log; nothing of the index is left."""
    change = await workshop.until(change_id, State.FAILED, seconds=30)
    check_intents(change)
    assert workshop.invalid() == []
    intents = [e.detail for e in change.events if e.action == "cancel.intent"]
    assert intents, story(change)
    return intents[0]


def told(change: Change) -> list[dict[str, Any]]:
    return [e.detail for e in change.events if e.action == "pressure"]


@contextmanager
def sessions(workshop: Workshop, number: int, statement: str) -> Iterator[None]:
    """So many sessions that run a statement over and over."""
    stop = threading.Event()

    def run() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            while not stop.is_set():
                conn.execute(statement.encode())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def with_metric(workshop: Workshop, file: Path) -> dict[str, dict[str, Any]]:
    """The server's CPU is what a file says."""
    data = plain(workshop.settings)
    data["metrics"] = {"host": {"command": ["cat", str(file)], "max_age_seconds": 0}}
    workshop.settings = validated(Settings, data)
    return {"cpu_throttle": {"metric": "host"}}


@pytest.mark.family(18)
async def test_critical_load_stops_a_build_at_the_second_look(workshop: Workshop) -> None:
    change_id = await at_work(workshop, critical_load={"max_active_backends": 3, "interval_seconds": 0.4})
    await asyncio.sleep(1.5)
    assert "cancel.intent" not in actions(await workshop.journal.change(change_id))
    with sessions(workshop, 5, "select pg_sleep(0.2)"):
        intent = await stopped_by(workshop, change_id)
    assert intent["guard"] == "critical_load"
    assert "active backends, the limit is 3, seen twice" in intent["why"]
    assert told(await workshop.journal.change(change_id))[0]["guard"] == "critical_load"


@pytest.mark.family(18)
async def test_a_hot_cpu_stops_a_build_and_a_moment_of_heat_does_not(workshop: Workshop, tmp_path: Path) -> None:
    cpu = tmp_path / "cpu"
    cpu.write_text("10")
    change_id = await at_work(workshop, **with_metric(workshop, cpu))
    cpu.write_text("95")  # the limit itself
    await asyncio.sleep(1.2)
    assert told(await workshop.journal.change(change_id)) == []
    cpu.write_text("96")
    await workshop.until_event(change_id, "pressure")
    cpu.write_text("10")
    await asyncio.sleep(1.2)
    assert "cancel.intent" not in actions(await workshop.journal.change(change_id))
    cpu.write_text("96")
    intent = await stopped_by(workshop, change_id)
    assert (intent["guard"], intent["value"], intent["limit"]) == ("cpu", "96 %", "95 %")


@pytest.mark.family(18)
@pytest.mark.parametrize("answer", [None, "", "null", "garbage", "NaN"])
async def test_a_metric_that_fails_in_the_middle_stops_a_build(
    workshop: Workshop, tmp_path: Path, answer: str | None
) -> None:
    cpu = tmp_path / "cpu"
    cpu.write_text("10")
    change_id = await at_work(workshop, **with_metric(workshop, cpu))
    if answer is None:
        cpu.unlink()
    else:
        cpu.write_text(answer)
    intent = await stopped_by(workshop, change_id)
    assert (intent["guard"], intent["value"]) == ("pressure", "not measured")
    assert "metric host" in intent["why"]


@pytest.mark.family(18)
async def test_a_metric_that_hangs_stops_a_build(workshop: Workshop, tmp_path: Path) -> None:
    script = tmp_path / "cpu"
    script.write_text("echo 10")
    with_metric(workshop, script)
    data = plain(workshop.settings)
    data["metrics"] = {"host": {"command": ["sh", str(script)], "max_age_seconds": 0, "timeout_seconds": 0.5}}
    workshop.settings = validated(Settings, data)
    change_id = await at_work(workshop, cpu_throttle={"metric": "host"})
    script.write_text("exec sleep 30")
    intent = await stopped_by(workshop, change_id)
    assert intent["guard"] == "pressure"
    assert "no answer within 0.5 s" in intent["why"]


@pytest.mark.family(18)
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["false"], "ended with status 1"),
        (["printf", "null"], "is null"),
        (["sleep", "30"], "no answer within 0.3 s"),
        (["printf", "garbage"], "neither a number nor JSON"),
    ],
)
async def test_a_metric_that_fails_before_lets_nothing_start(workshop: Workshop, command: list[str], why: str) -> None:
    data = plain(workshop.settings)
    data["metrics"] = {"host": {"command": command, "timeout_seconds": 0.3}}
    data["production_safeguards"]["cpu_throttle"]["metric"] = "host"
    workshop.settings = validated(Settings, data)
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "apply.refused")
    outcome = next(e.detail["outcome"] for e in change.events if e.action == "apply.refused")
    assert "cpu_throttle unknown" in outcome
    assert why in outcome
    assert "ddl.intent" not in actions(change)


async def test_writers_that_suffer_stop_a_build(workshop: Workshop) -> None:
    """Their row is held by somebody else for a second at a time; latency and transactions both show it."""
    with sessions(workshop, 3, "update app.t set w = w where id = 17"):
        await asyncio.sleep(1.0)
        sections = {
            "throttle": {"enabled": True, "sample_seconds": 1.0, "max_active_backends": 100, "max_oldest_xact_seconds": 900},
            "write_performance": {"critical_latency_ms": 20},
            "critical_load": {"interval_seconds": 1.5},
        }
        change_id = await at_work(workshop, **sections)
        with sessions(workshop, 1, "begin; select 1 from app.t where id = 17 for update; select pg_sleep(0.9); commit"):
            intent = await stopped_by(workshop, change_id)
    assert intent["guard"] == "writes", intent
    assert "transactions a second" in intent["why"]


async def test_nobody_is_stopped_for_load_while_the_build_waits(workshop: Workshop, tmp_path: Path) -> None:
    cpu = tmp_path / "cpu"
    cpu.write_text("10")
    settings_with(workshop, **with_metric(workshop, cpu), critical_load={"interval_seconds": 0.3})
    change_id = await workshop.approved("create index on app.t (v)")
    held = workshop.blocker(*OLD_SNAPSHOT)
    await workshop.spawn(change_id)
    await phase(workshop, LAST_WAIT, change_id)
    cpu.write_text("99")
    await asyncio.sleep(2)
    assert "cancel.intent" not in actions(await workshop.journal.change(change_id))
    held.rollback()
    change = await workshop.until(change_id, *END)
    assert change.index_valid, story(change)


async def test_a_way_back_is_not_stopped_for_load(workshop: Workshop, tmp_path: Path) -> None:
    """A dropped index may be what the load comes from."""
    from indexpilot_tui.engine.changes.rollback import propose_rollback

    workshop.sql(f"delete from app.t where id > 4000; {SLOW}")
    workshop.sql(f"set role {OWNER}; create index gone on app.t (app.slow(v))")
    change_id = await workshop.approved("drop index app.gone")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    cpu = tmp_path / "cpu"
    cpu.write_text("99")
    settings_with(workshop, **with_metric(workshop, cpu), critical_load={"interval_seconds": 0.3})
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "missed")
    await workshop.spawn(child)
    back = await workshop.until(child, State.DONE, seconds=90)
    assert "cancel.intent" not in actions(back), story(back)
    assert "gone" in workshop.indexes()


async def test_a_rival_with_a_snapshot_is_told_as_what_it_is(workshop: Workshop) -> None:
    change_id = await at_work(workshop, observer={"max_attempts": 1, "yield_after_seconds": 5})
    rival = Rival(workshop, "analyze app.t", name="nightly")
    change = await workshop.until_event(change_id, "rival")
    seen = next(e.detail for e in change.events if e.action == "rival")
    assert seen["mode"] == "ShareUpdateExclusiveLock"
    assert "nightly" in seen["who"]
    assert "40P01" in seen["why"]
    intent = await stopped_by(workshop, change_id)
    assert intent["guard"] == "yield"
    await rival.done()


@pytest.fixture(scope="module")
def primary() -> Iterator[LocalCluster]:
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off", "wal_receiver_status_interval": "1s"}
    cluster = asyncio.run(LocalCluster.start("lag", settings=settings))
    yield cluster
    asyncio.run(cluster.stop())


async def test_a_standby_far_behind_stops_a_build(primary: LocalCluster) -> None:
    with standby_of(primary) as follower:
        async with make_workshop(primary) as workshop:
            follower.caught_up()
            change_id = await at_work(workshop, replicas={"max_replay_lag_seconds": 1.5, "critical_replay_lag_seconds": 2})
            with follower.connect() as conn:
                conn.execute("select pg_wal_replay_pause()")
                try:
                    intent = await stopped_by(workshop, change_id)
                finally:
                    conn.execute("select pg_wal_replay_resume()")
            assert intent["guard"] == "replica_lag"
            assert "the standby standby1 is" in intent["why"]


async def test_guards_that_look_on_cost_a_quiet_build_nothing(workshop: Workshop) -> None:
    workshop.sql("delete from app.t where id > 5000")
    start = time.monotonic()
    change_id = await at_work(workshop)
    change = await workshop.until(change_id, *END, seconds=90)
    assert change.index_valid
    assert told(change) == []
    print(f"built in {time.monotonic() - start:.1f} s")
