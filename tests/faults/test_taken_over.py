"""An executor that died in each state, as its successor finds it: the reconcile table, row by row, on a real server."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.changes.settle import other_server
from indexpilot_tui.engine.journal.journal import Claim
from indexpilot_tui.engine.model.change import Change, State
from tests.faults.workshop import OPERATOR, OWNER, Workshop, actions, alive, check_intents, story

CREATE = "create index on app.t (v)"


async def claimed(workshop: Workshop, ddl: str = CREATE) -> Claim:
    change_id = await workshop.approved(ddl)
    facts = workshop.monitor.facts
    return await workshop.journal.claim(
        change_id,
        system_identifier=facts.system_identifier,
        timeline=facts.timeline,
        rate_max=50,
        rate_window_s=60,
        lease_s=0.5,
    )


async def walk(workshop: Workshop, claim: Claim, *steps: tuple[State, str]) -> None:
    here = State.STARTING
    for state, action in steps:
        detail = {"observe_until": datetime.now().astimezone()} if state is State.OBSERVING else {}
        await workshop.journal.advance(claim.change_id, claim.epoch, here, state, action, detail)
        here = state


async def succeed(workshop: Workshop, claim: Claim) -> Change:
    await asyncio.sleep(0.6)  # the lease ends
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(claim.change_id)
    check_intents(change)
    return change


RUNNING = (State.RUNNING, "ddl.intent")


@pytest.mark.family(5)
async def test_died_before_anything_was_sent(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert "lost" in change.outcome


@pytest.mark.family(4)
async def test_a_second_executor_leaves_a_change_alone_that_has_its_holder(workshop: Workshop) -> None:
    """It reads the holder's epoch with the change; that does not make the change its own."""
    claim = await claimed(workshop)
    workshop.left[claim.change_id] = "its holder is this test"
    before = actions(await workshop.journal.change(claim.change_id))
    pid = await workshop.spawn(claim.change_id)
    for _ in range(100):
        if not alive(pid):
            break
        await asyncio.sleep(0.1)
    change = await workshop.journal.change(claim.change_id)
    assert change.state is State.STARTING
    assert actions(change) == before


@pytest.mark.family(16)
async def test_what_was_there_before_us_is_never_dropped(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    workshop.theirs.add("app.t_v_idx")
    with suppress(psycopg.errors.UniqueViolation):
        workshop.sql("create unique index concurrently t_v_idx on app.t (v)")
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == ["app.t_v_idx"]


@pytest.mark.family(16)
async def test_another_index_of_our_name_needs_an_operator(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    await walk(workshop, claim, RUNNING)
    workshop.sql("create index t_v_idx on app.t (w)")
    change = await succeed(workshop, claim)
    assert change.state is State.NEEDS_OPERATOR, story(change)
    assert "not as planned" in change.outcome
    assert "t_v_idx" in workshop.indexes()


@pytest.mark.family(5)
async def test_died_after_the_intent_with_nothing_made(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    await walk(workshop, claim, RUNNING)
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert "nothing is left" in change.outcome


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.family(5)
async def test_a_leftover_is_removed_whether_its_oid_was_recorded_or_not(workshop: Workshop, recorded: bool) -> None:
    claim = await claimed(workshop, "create unique index on app.t (v)")
    await walk(workshop, claim, RUNNING)
    with suppress(psycopg.errors.UniqueViolation):
        workshop.sql(
            f"set role {OWNER}",
        )
        workshop.sql("create unique index concurrently t_v_idx on app.t (v)")
    if recorded:
        oid = int(str(workshop.sql("select 'app.t_v_idx'::regclass::oid::int8")[0][0]))
        await workshop.journal.set_index(claim.change_id, claim.epoch, oid, False)
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == []
    assert "clean.intent" in actions(change)


@pytest.mark.parametrize("steps", [(), ((State.VERIFYING, "verify.intent"),), ((State.UNKNOWN, "lost"),)])
@pytest.mark.family(5)
async def test_a_finished_build_is_verified_and_observed(workshop: Workshop, steps: tuple[tuple[State, str], ...]) -> None:
    claim = await claimed(workshop)
    await walk(workshop, claim, RUNNING, *steps)
    workshop.sql(f"set role {OWNER}; create index t_v_idx on app.t (v)")
    change = await succeed(workshop, claim)
    assert change.state is State.DONE, story(change)
    assert change.index_valid
    assert actions(change).count("verified") == 1


class Build:
    """A backend of the operator's that builds concurrently, held by an old snapshot."""

    def __init__(self, workshop: Workshop) -> None:
        self.held = workshop.blocker("set transaction isolation level repeatable read", "select 1 from app.other")
        self.conn = psycopg.connect(
            workshop.cluster.conninfo(workshop.dbname, OPERATOR, application_name="ixp-stand-in"), autocommit=True
        )
        row: Any = self.conn.execute(
            "select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()"
        ).fetchone()
        self.pid, self.start = row
        self.conn.execute(f"set role {OWNER}".encode())  # from here on its own activity is hidden from it
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        with suppress(psycopg.Error):
            self.conn.execute("create index concurrently t_v_idx on app.t (v)")
        self.conn.close()


async def building(workshop: Workshop, *steps: tuple[State, str]) -> tuple[Claim, Build]:
    claim = await claimed(workshop)
    build = Build(workshop)
    await workshop.journal.set_backend(claim.change_id, claim.epoch, build.pid, build.start)
    await walk(workshop, claim, RUNNING, *steps)
    for _ in range(100):
        if workshop.sql("select 1 from pg_stat_progress_create_index where phase = 'waiting for old snapshots'"):
            return claim, build
        await asyncio.sleep(0.05)
    raise AssertionError("the build did not begin")


@pytest.mark.family(5)
async def test_a_live_build_is_adopted_not_doubled(workshop: Workshop) -> None:
    claim, build = await building(workshop)
    task = asyncio.create_task(succeed(workshop, claim))
    await workshop.until_event(claim.change_id, "takeover")
    await asyncio.sleep(0.5)
    build.held.close()
    change = await asyncio.wait_for(task, 30)
    build.thread.join()
    assert change.state is State.DONE, story(change)
    assert actions(change).count("ddl.intent") == 1


@pytest.mark.family(3)
async def test_an_adopted_build_still_gives_way(workshop: Workshop) -> None:
    claim, build = await building(workshop)
    task = asyncio.create_task(succeed(workshop, claim))
    await workshop.until_event(claim.change_id, "takeover")

    def deploy() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            conn.execute("set lock_timeout = '5s'")
            conn.execute("alter table app.t add column extra int")

    await asyncio.to_thread(deploy)
    build.held.close()
    change = await asyncio.wait_for(task, 40)
    build.thread.join()
    assert any(e.action == "cancel.intent" and e.detail.get("guard") == "yield" for e in change.events), story(change)
    assert change.state is State.DONE, story(change)  # queued again, and built
    assert workshop.invalid() == []


@pytest.mark.family(5)
async def test_a_cancel_that_was_not_sent_is_sent(workshop: Workshop) -> None:
    claim, build = await building(workshop, (State.CANCELLING, "cancel.intent"))
    task = asyncio.create_task(succeed(workshop, claim))
    await asyncio.to_thread(build.thread.join, 15)
    assert not build.thread.is_alive()
    build.held.close()
    change = await asyncio.wait_for(task, 30)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == []
    assert "cancel.sent" in actions(change)


@pytest.mark.family(5)
async def test_queued_and_forgotten_is_started_again(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    await walk(workshop, claim, (State.QUEUED, "requeued"))
    change = await succeed(workshop, claim)
    assert change.state is State.DONE, story(change)
    assert actions(change).count("claimed") == 2


@pytest.mark.family(5)
async def test_a_drop_that_had_not_begun_goes_on(workshop: Workshop) -> None:
    workshop.sql(f"set role {OWNER}; create index spare on app.t (w)")
    claim = await claimed(workshop, "drop index app.spare")
    await walk(workshop, claim, RUNNING)
    change = await succeed(workshop, claim)
    assert change.state is State.DONE, story(change)
    assert "spare" not in workshop.indexes()


@pytest.mark.family(14)
async def test_a_half_dropped_index_is_finished(workshop: Workshop) -> None:
    workshop.sql(f"set role {OWNER}; create index spare on app.t (w)")
    claim = await claimed(workshop, "drop index app.spare")
    await walk(workshop, claim, RUNNING)
    reader = workshop.blocker("select 1 from app.t")
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute("set statement_timeout = 500")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("drop index concurrently app.spare")
    reader.close()
    assert workshop.invalid() == ["app.spare"]
    change = await succeed(workshop, claim)
    assert change.state is State.DONE, story(change)
    assert workshop.invalid() == []
    assert "spare" not in workshop.indexes()


@pytest.mark.family(10)
async def test_after_a_failover_or_on_a_standby_nothing_is_believed(workshop: Workshop) -> None:
    claim = await claimed(workshop)
    workshop.left[claim.change_id] = "its holder is this test"
    change = await workshop.journal.change(claim.change_id)
    session, facts = workshop.monitor, workshop.monitor.facts

    class Held:
        plan, timeline = change.plan, facts.timeline

    def seen(**changed: Any) -> str:
        return other_server(Held(), replace(session, facts=replace(facts, **changed)))  # type: ignore[arg-type]

    assert seen() == ""
    assert "failover" in seen(timeline=facts.timeline + 1)
    assert "standby" in seen(in_recovery=True)
    assert "cluster" in seen(system_identifier="1")
