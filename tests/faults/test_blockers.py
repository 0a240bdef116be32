"""Family 1: transactions that a build has to wait for. Refused when they are there before; shown and bounded when they come
later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from tests.faults import oracle
from tests.faults.scenes import (
    BEFORE_BUILD,
    CREATE,
    END,
    LAST_WAIT,
    OLD_SNAPSHOT,
    READER,
    WRITER,
    phase,
    refused,
    settings_with,
)
from tests.faults.workshop import Workshop, actions, check_intents, make_workshop, quick, story
from tests.servers import DEBIAN_15, require

CURSOR = ("declare c cursor for select * from app.other", "fetch 1 from c")
PREPARED = "an open transaction of two phases"
PG_DUMP = "pg_dump"
BLOCKERS = {"old snapshot": OLD_SNAPSHOT, "writer": WRITER, "open cursor": CURSOR, PREPARED: (), PG_DUMP: ()}


@contextmanager
def blocking(workshop: Workshop, kind: str) -> Iterator[None]:
    """Somebody who holds a build up until the block ends."""
    with contextlib.ExitStack() as stack:
        if kind == PG_DUMP:
            stack.enter_context(dumping(workshop))
        elif kind == PREPARED:
            workshop.sql("begin; update app.t set v = v where id = 1; prepare transaction 'lost and found'")
            stack.callback(workshop.sql, "rollback prepared 'lost and found'")
        else:
            stack.enter_context(workshop.blocker(*BLOCKERS[kind]))
        yield


@contextmanager
def dumping(workshop: Workshop) -> Iterator[None]:
    """A pg_dump that has its snapshot, and hangs on the lock of a table that somebody holds."""
    holder = workshop.blocker("lock table app.other in access exclusive mode")
    where = psycopg.conninfo.conninfo_to_dict(workshop.cluster.conninfo(workshop.dbname))
    argv = [str(DEBIAN_15 / "pg_dump"), "-f", os.devnull, "-h", str(where["host"]), "-p", str(where["port"]), "-U", str(where["user"]),
            str(where["dbname"])]  # fmt: skip
    dump = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 10
        while not workshop.sql(
            "select 1 from pg_stat_activity where application_name = 'pg_dump' and wait_event_type = 'Lock'"
        ):
            assert time.monotonic() < end, dump.poll()
            time.sleep(0.05)
        yield
    finally:
        holder.close()
        _, said = dump.communicate(timeout=20)
        assert dump.returncode == 0, said


@pytest.fixture
async def old(cluster15: LocalCluster) -> AsyncIterator[Workshop]:
    """On 15: its pg_dump is the one that is installed."""
    require((DEBIAN_15 / "pg_dump").exists(), "postgresql-client-15")
    async with make_workshop(cluster15) as made:
        yield made


@pytest.mark.family(1)
@pytest.mark.parametrize("kind", list(BLOCKERS))
async def test_one_that_is_there_before_keeps_the_build_from_starting(old: Workshop, kind: str) -> None:
    settings_with(old, blockers={"max_snapshot_age_seconds": 0.5, "max_writer_age_seconds": 0.5})
    change_id = await old.approved(CREATE)
    with blocking(old, kind):
        await asyncio.sleep(0.7)
        await old.spawn(change_id)
        change = await refused(old, change_id)
    assert change.state is State.APPROVED, story(change)
    outcome = str(change.events[-1].detail["outcome"])
    assert "blockers" in outcome
    assert ("lost and found" if kind == PREPARED else "pid ") in outcome
    assert oracle.deeds(old) == []
    await old.spawn(change_id)  # and nothing is remembered of it once it has gone
    await old.until(change_id, *END)


@pytest.mark.family(1)
@pytest.mark.parametrize("kind", list(BLOCKERS))
async def test_one_that_comes_later_is_shown_with_phase_pid_and_age(old: Workshop, kind: str) -> None:
    change_id = await old.approved(CREATE)
    with blocking(old, kind):
        start = time.monotonic()
        await old.spawn(change_id)
        await phase(old, BEFORE_BUILD if kind in ("writer", PREPARED) else LAST_WAIT, change_id)
        while time.monotonic() < start + 10:
            change = await old.journal.change(change_id)
            held = [h for e in change.events if e.action == "phase" for h in e.detail["held_by"]]
            if any(" 2 s old" in h or " 3 s old" in h or "prepared" in h for h in held):
                break
            await asyncio.sleep(0.1)
    last = [e.detail for e in change.events if e.action == "phase"][-1]
    assert last["held_by"], story(change)
    word = {PREPARED: "ROLLBACK PREPARED", PG_DUMP: "pg_dump", "open cursor": "fetch", "writer": "update"}.get(
        kind, "select 1"
    )
    assert word in last["held_by"][0]
    assert last["phase"] in (BEFORE_BUILD, LAST_WAIT)
    change = await old.until(change_id, *END)
    check_intents(change)


@pytest.mark.family(1)
async def test_a_reader_holds_up_a_drop_and_is_shown(workshop: Workshop) -> None:
    workshop.sql("set role w_owner; create index spare on app.t (w)")
    settings_with(workshop, blockers={"max_writer_age_seconds": 0.5})
    change_id = await workshop.approved("drop index app.spare")
    reader = workshop.blocker(*READER)
    await asyncio.sleep(0.7)
    await workshop.spawn(change_id)
    change = await refused(workshop, change_id)
    assert change.state is State.APPROVED
    assert "a transaction that uses the table" in str(change.events[-1].detail["outcome"])
    await workshop.journal.withdraw(change_id, "with other limits")
    workshop.settings = quick()
    change_id = await workshop.approved("drop index app.spare")  # looser limits need an approval of their own
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    await asyncio.sleep(1.5)
    change = await workshop.journal.change(change_id)
    held = [h for e in change.events if e.action == "phase" for h in e.detail["held_by"]]
    assert any("select 1 from app.t" in h for h in held), story(change)
    reader.close()
    await workshop.until(change_id, *END)


@pytest.mark.family(1)
async def test_waiting_for_a_writer_before_the_build_has_an_end(workshop: Workshop) -> None:
    settings_with(workshop, observer={"waiting_phase_seconds": 1.0})
    change_id = await workshop.approved(CREATE)
    writer = workshop.blocker(*WRITER)
    pid = writer.info.backend_pid
    await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "clean.intent")
    writer.close()
    change = await workshop.until(change_id, State.FAILED)
    intent = next(e.detail for e in change.events if e.action == "cancel.intent")
    assert intent["guard"] == "waiting_phase"
    assert f"pid {pid}, its transaction" in change.outcome
    assert "cancel.sent" in actions(change)
    check_intents(change)


@pytest.mark.family(1)
async def test_nobody_elses_transaction_is_ever_ended(workshop: Workshop) -> None:
    """A build that waits gives itself up, never the one that it waits for."""
    settings_with(workshop, observer={"waiting_phase_seconds": 1.0})
    change_id = await workshop.approved(CREATE)
    writer = workshop.blocker(*WRITER)
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "cancel.sent")
    await asyncio.sleep(0.5)
    assert writer.execute("select 1").fetchone() == (1,)
    writer.rollback()
    with contextlib.suppress(psycopg.Error):
        writer.close()
    await workshop.until(change_id, State.FAILED)
