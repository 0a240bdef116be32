"""Half-done drops, crashes of the server, settings that others forced on the login, races before the start."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.changes.book import Book, state_dir
from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.errors import ServerError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.faults.workshop import OPERATOR, Workshop, actions, check_intents, make_workshop, quick, story
from tests.servers import DEBIAN_15, require

READER = ("select 1 from app.t",)


@pytest.fixture
async def spare(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    """A workshop with an index to drop."""
    async with make_workshop(cluster18) as made:
        made.sql("set role w_owner; create index spare on app.t (w)")
        yield made


def flags(workshop: Workshop) -> list[tuple[object, ...]]:
    return workshop.sql("select indisvalid, indislive from pg_index where indexrelid = to_regclass('app.spare')")


async def dropping(workshop: Workshop) -> tuple[int, psycopg.Connection[tuple[object, ...]]]:
    """A drop that waits for a reader, with the index half-dropped already."""
    change_id = await workshop.approved("drop index app.spare")
    held = workshop.blocker(*READER)
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    for _ in range(100):
        if flags(workshop) == [(False, True)]:
            return change_id, held
        await asyncio.sleep(0.05)
    raise AssertionError(story(await workshop.journal.change(change_id)))


def alter(workshop: Workshop) -> None:
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute("set lock_timeout = '20s'; alter table app.t add column extra int")


@pytest.mark.family(14)
async def test_a_drop_gives_way_and_is_finished_later(spare: Workshop) -> None:
    change_id, held = await dropping(spare)
    thread = threading.Thread(target=alter, args=(spare,))
    thread.start()
    await spare.until_event(change_id, "requeued")
    held.close()
    await asyncio.to_thread(thread.join)
    change = await spare.until(change_id, State.OBSERVING, State.DONE, seconds=40)
    requeued = next(e for e in change.events if e.action == "requeued")
    assert "half-dropped" in str(requeued.detail["why"])
    assert "spare" not in spare.indexes()
    check_intents(change)


@pytest.mark.family(14)
async def test_a_drop_stopped_halfway_by_an_operator_needs_one(spare: Workshop) -> None:
    change_id, held = await dropping(spare)
    await spare.journal.request_abort(change_id, "not tonight")
    for _ in range(200):
        change = await spare.journal.change(change_id)
        if change.state is State.NEEDS_OPERATOR:
            break
        await asyncio.sleep(0.1)
    held.close()
    assert change.state is State.NEEDS_OPERATOR, story(change)
    assert "half-dropped" in change.outcome
    commands = next(e for e in change.events if e.action == "needs_operator").detail["commands"]
    assert any("REINDEX INDEX CONCURRENTLY app.spare" in str(c) for c in commands)
    assert flags(spare) == [(False, True)]


@pytest.mark.family(2)
async def test_attempts_end(workshop: Workshop) -> None:
    one_slot = validated(Settings, {"rate_limiter": {"index_creation": {"max_requests": 1}}}).rate_limiter
    workshop.settings = replace(quick(max_attempts=2), rate_limiter=one_slot)
    change_id = await workshop.approved("create index on app.t (v)")
    writer = "update app.t set v = 1 where id = 1"  # holds the build in its first phase
    held = workshop.blocker(writer)
    await workshop.spawn(change_id)
    for attempt in (1, 2):
        for _ in range(200):
            if workshop.sql("select 1 from pg_stat_progress_create_index where phase like 'waiting for writers%'"):
                break
            await asyncio.sleep(0.05)
        thread = threading.Thread(target=rival, args=(workshop,))
        thread.start()
        for _ in range(200):
            change = await workshop.journal.change(change_id)
            if actions(change).count("clean.intent") == attempt:
                break
            await asyncio.sleep(0.05)
        held.close()
        await asyncio.to_thread(thread.join)
        held = workshop.blocker(writer)
    change = await workshop.until(change_id, State.FAILED)
    held.close()
    assert actions(change).count("claimed") == 2, story(change)
    assert "gave way" in change.outcome
    assert "attempt 2" in change.outcome
    assert workshop.invalid() == []
    assert (await workshop.journal.rate_status(5, 3600)).used == 1
    check_intents(change)


def rival(workshop: Workshop) -> None:
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute("analyze app.t")


@pytest.mark.family(4)
async def test_two_executors_for_one_change_build_once(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    await asyncio.gather(workshop.spawn(change_id), workshop.spawn(change_id))
    change = await workshop.until(change_id, State.OBSERVING)
    assert actions(change).count("claimed") == 1
    assert actions(change).count("ddl.intent") == 1


@pytest.mark.family(8)
async def test_limits_that_others_set_for_the_login_do_not_reach_the_build(workshop: Workshop) -> None:
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
                  "transaction_timeout"):  # fmt: skip
        workshop.sql(f"alter role {OPERATOR} in database {workshop.dbname} set {limit} = '500ms'")
    change_id = await workshop.approved("create index on app.t (v)")
    held = workshop.blocker("set transaction isolation level repeatable read", "select 1 from app.other")
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    await asyncio.sleep(2)
    held.close()
    change = await workshop.until(change_id, State.OBSERVING)
    intent = next(e for e in change.events if e.action == "ddl.intent")
    assert intent.detail["settings"]["statement_timeout"] == "0"
    assert actions(change).count("claimed") == 1


async def renamed(w: Workshop) -> None:
    w.sql("alter table app.t rename to t2")


async def recreated(w: Workshop) -> None:
    w.sql("drop table app.t; set role w_owner; create table app.t (id int primary key, v int, w text)")


async def name_taken(w: Workshop) -> None:
    w.sql("set role w_owner; create index t_v_idx on app.t (w)")


async def new_owner(w: Workshop) -> None:
    w.sql("alter table app.t owner to indexpilot")


@pytest.mark.parametrize("deed", [renamed, recreated, name_taken, new_owner])
async def test_what_changed_since_the_proposal_is_not_changed_further(
    workshop: Workshop, deed: Callable[[Workshop], object]
) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    await deed(workshop)  # type: ignore[misc]
    before = workshop.indexes()
    await workshop.spawn(change_id)
    for _ in range(100):
        change = await workshop.journal.change(change_id)
        if change.state is State.FAILED or "apply.refused" in actions(change):
            break
        await asyncio.sleep(0.1)
    assert change.state in (State.FAILED, State.APPROVED), story(change)
    assert "ddl.intent" not in actions(change)
    assert workshop.indexes() == before


@pytest.mark.family(17)
async def test_a_gate_that_refuses_leaves_the_change_approved_and_says_so(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    workshop.settings = validated(
        Settings, {"production_safeguards": {"maintenance_window": {"days_of_week": [_other_weekday(workshop)]}}}
    )
    await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "apply.refused")
    assert change.state is State.APPROVED
    refused = next(e for e in change.events if e.action == "apply.refused")
    assert "maintenance_window wait: closed; opens" in str(refused.detail["outcome"])
    assert (await workshop.journal.rate_status(5, 3600)).used == 0


def _other_weekday(workshop: Workshop) -> int:
    isodow = workshop.sql("select extract(isodow from now() at time zone 'UTC')::int")[0][0]
    return (int(str(isodow)) + 2) % 7  # three days ahead, Monday is 0


@pytest.mark.family(10)
async def test_a_crash_of_the_server_in_mid_build(tmp_path: Path) -> None:
    """A backend killed by the machine takes the whole cluster down for a moment, the journal with it."""
    cluster = await LocalCluster.start("crash", settings={"shared_preload_libraries": "pg_stat_statements"})
    async with cluster, make_workshop(cluster) as workshop:
        change_id = await workshop.approved("create unique index on app.t (id, v)")
        held = workshop.blocker("set transaction isolation level repeatable read", "select 1 from app.other")
        await workshop.spawn(change_id)
        await workshop.until_event(change_id, "index")
        backend = int(str(workshop.sql("select pid from pg_stat_activity where application_name like 'ixp:%'")[0][0]))
        os.kill(backend, signal.SIGKILL)
        await asyncio.sleep(3)
        held.close()
        change = await ended(workshop, change_id)
        assert change.state is State.FAILED, story(change)
        assert workshop.invalid() == []
        assert "lost" in actions(change) or "ddl.outcome" in actions(change)
        check_intents(change)


async def ended(workshop: Workshop, change_id: int) -> Change:
    """Read with a fresh connection each time: ours died with the server."""
    from indexpilot_tui.engine.changes.job import open_journal

    for _ in range(300):
        try:
            journal = await open_journal(workshop.target, workshop.settings)
        except ServerError:
            await asyncio.sleep(0.2)
            continue
        try:
            change = await journal.change(change_id)
        finally:
            await journal.close()
        if change.ended or change.state is State.NEEDS_OPERATOR:
            return change
        await asyncio.sleep(0.2)
    raise AssertionError(story(change))


async def test_create_and_back_on_postgresql_15(tmp_path: Path) -> None:
    require((DEBIAN_15 / "postgres").exists(), "postgresql-15")
    preload = {"shared_preload_libraries": "pg_stat_statements"}
    cluster = await LocalCluster.start("old", settings=preload, bindir=DEBIAN_15)
    async with cluster, make_workshop(cluster) as workshop:
        change_id = await workshop.approved("create index on app.t (v)")
        await workshop.spawn(change_id)
        change = await workshop.until(change_id, State.OBSERVING)
        child = await propose_rollback(workshop.monitor, workshop.journal, change, "back")
        await workshop.spawn(child)
        back = await workshop.until(child, State.DONE)
        assert workshop.indexes() == ["other_pkey", "t_pkey"]
        check_intents(back)


@pytest.mark.family(19, no_oracle="no change is made")
def test_a_book_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    with pytest.raises(ServerError, match="without a log there is no deed"):
        state_dir()
    with pytest.raises(ServerError, match="local copy"):
        Book(blocked / "x.jsonl").write("ddl.intent", {})


@pytest.mark.family(19)
async def test_the_book_has_every_intent_too(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    book = Book.of(workshop.monitor.facts.system_identifier, workshop.dbname, change_id)
    assert book.path.stat().st_mode & 0o777 == 0o600
    written = [line["action"] for line in book.lines()]
    assert written.index("ddl.intent") < written.index("ddl.outcome") < written.index("verified")
