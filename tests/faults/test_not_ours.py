"""What a change must never touch: an index that took its name, another database with the same OIDs, DDL that nobody judged."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from datetime import timedelta

import psycopg
import pytest

from indexpilot_tui.engine.changes.agreement import disagreement, must_agree
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now, evaluate
from indexpilot_tui.errors import RefusedError
from tests.faults.scenes import OLD_SNAPSHOT
from tests.faults.workshop import Workshop


@pytest.mark.family(16)
async def test_the_clean_up_does_not_drop_whoever_took_the_name(workshop: Workshop) -> None:
    """DROP INDEX goes by name, and a name is resolved again after a lock wait: a DBA swaps the index meanwhile."""
    change_id = await workshop.approved("create index shared_name on app.t (v)")
    held = workshop.blocker(*OLD_SNAPSHOT)
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")

    def swap() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            conn.execute("set lock_timeout = '20s'")
            with conn.transaction():
                conn.execute("drop index app.shared_name")
                conn.execute("create index shared_name on app.t (id, v)")
                time.sleep(1.5)

    thread = threading.Thread(target=swap)
    thread.start()
    await asyncio.to_thread(thread.join)
    held.close()
    end = time.monotonic() + 40
    while time.monotonic() < end:
        change = await workshop.journal.change(change_id)
        if change.ended or change.state in (State.NEEDS_OPERATOR, State.OBSERVING):
            break
        await asyncio.sleep(0.2)
    theirs = workshop.sql("select pg_get_indexdef('app.shared_name'::regclass), indisvalid from pg_index"
                          " where indexrelid = 'app.shared_name'::regclass")  # fmt: skip
    assert theirs
    assert "(id, v)" in str(theirs[0][0])
    assert theirs[0][1] is True
    assert workshop.invalid() == []


async def test_another_database_is_refused(workshop: Workshop) -> None:
    plan = await workshop.plan("create index on app.t (v)")
    now = await database_now(workshop.monitor)

    async def primary(database: str) -> Status:
        ctx = GateContext(
            target=workshop.target, settings=workshop.settings, session=workshop.monitor, now=now, journal=workshop.journal,
            plan=dataclasses.replace(plan, database=database),
        )  # fmt: skip
        return next(v.status for v in await evaluate(ctx) if v.guard == "primary")

    assert await primary(plan.database) is Status.PASS
    assert await primary("a_twin_from_the_same_template") is Status.BLOCK


@pytest.mark.parametrize(
    "ddl",
    [
        "DROP TABLE app.t",
        "CREATE INDEX t_v_idx ON app.t USING btree (v)",
        "CREATE INDEX CONCURRENTLY zz ON app.t USING btree (v)",
        "CREATE INDEX CONCURRENTLY t_v_idx ON app.other USING btree (v)",
        "CREATE UNIQUE INDEX CONCURRENTLY t_v_idx ON app.t USING btree (v)",
        "CREATE INDEX CONCURRENTLY t_v_idx ON app.t USING btree (v); DROP TABLE app.t",
        "DROP INDEX CONCURRENTLY app.t_v_idx",
    ],
)
async def test_only_what_the_plan_says_is_sent(workshop: Workshop, ddl: str) -> None:
    plan = await workshop.plan("create index on app.t (v)")
    assert disagreement(plan) == ""
    with pytest.raises(RefusedError):
        must_agree(dataclasses.replace(plan, ddl=ddl))


@pytest.mark.family(20)
async def test_a_rollback_with_other_ddl_is_not_carried_out(workshop: Workshop) -> None:
    """A rollback needs no approval of its own, so its text must be the opposite of its parent and nothing else."""
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    parent = await workshop.until(change_id, State.OBSERVING)
    from indexpilot_tui.engine.changes.rollback import plan_rollback

    plan = await plan_rollback(workshop.monitor, parent)
    forged = dataclasses.replace(plan, ddl="drop table app.other")
    child = await workshop.journal.propose(forged, target="test", reason="forged", parent_id=change_id, rollback=True)
    await workshop.spawn(child)
    asked = await workshop.until_event(child, "gates", after_end=True)
    assert asked.state is State.PROPOSED  # what differs from the way back that was kept needs an approval of its own
    assert not asked.covered
    await workshop.approver.approve(child, forged.sha256, timedelta(hours=1))
    await workshop.spawn(child)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        change = await workshop.journal.change(child)
        if change.ended:
            break
        await asyncio.sleep(0.2)
    assert change.state is State.FAILED
    assert workshop.sql("select to_regclass('app.other')::text") == [("app.other",)]
