"""A drop that was stopped half way: a second person has it finished or has the index back."""

from __future__ import annotations

import asyncio
import os
import signal

import psycopg
import pytest

from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.journal.journal import JournalRefusedError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import PrivilegeError
from tests.faults.workshop import OWNER, Workshop, actions, alive, check_intents, kill, story


async def half_dropped(workshop: Workshop) -> int:
    """A drop that an operator stopped while it waited for a reader: it needs a person now."""
    workshop.sql(f"set role {OWNER}; create index spare on app.t (w); comment on index app.spare is 'for the report'")
    change_id = await workshop.approved("drop index app.spare")
    await _caught(workshop, change_id)
    return change_id


async def _caught(workshop: Workshop, change_id: int) -> None:
    """The drop waits for a reader that began after its gates; stopped there, it leaves an INVALID index."""
    reader = workshop.blocker("select 1 from app.t")
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    for _ in range(100):
        if workshop.invalid():
            break
        await asyncio.sleep(0.05)
    await workshop.journal.request_abort(change_id, "the report runs")
    await workshop.until(change_id, State.NEEDS_OPERATOR)
    reader.close()


@pytest.mark.family(14)
async def test_it_waits_for_a_second_person_who_may_have_it_finished(either: Workshop) -> None:
    change_id = await half_dropped(either)
    change = await either.journal.change(change_id)
    assert either.invalid() == ["app.spare"]
    assert "half-dropped" in change.outcome
    commands = next(e.detail["commands"] for e in change.events if e.action == "needs_operator")
    assert any(f"resolve {change_id} --finish" in c for c in commands)
    with pytest.raises(PrivilegeError):
        await either.journal.resolve(change_id, "finish", "my own")  # who ran it is no approver
    await either.approver.resolve(change_id, "finish", "nobody needs it")
    await reconcile(either.target, either.settings, either.journal, detach=False)
    change = await either.journal.change(change_id)
    assert change.state is State.DONE, story(change)
    assert "spare" not in either.indexes()
    check_intents(change)


@pytest.mark.family(14)
async def test_it_can_be_had_back_with_all_that_it_had(either: Workshop) -> None:
    change_id = await half_dropped(either)
    await either.approver.resolve(change_id, "repair", "the report needs it")
    await reconcile(either.target, either.settings, either.journal, detach=False)
    change = await either.journal.change(change_id)
    assert change.state is State.FAILED, story(change)
    assert "built anew" in change.outcome
    assert either.invalid() == []
    assert "spare" in either.indexes()
    assert change.index_valid
    assert either.sql("select obj_description('app.spare'::regclass)") == [("for the report",)]
    intents = [e.detail["ddl"] for e in change.events if e.action == "ddl.intent"]
    assert intents[-1] == "REINDEX INDEX CONCURRENTLY app.spare"
    check_intents(change)


@pytest.mark.family(14)
async def test_a_repair_whose_executor_is_killed_is_carried_on(workshop: Workshop) -> None:
    change_id = await half_dropped(workshop)
    await workshop.approver.resolve(change_id, "repair", "the report needs it")
    held = workshop.blocker("set transaction isolation level repeatable read", "select 1 from app.other")
    pid = await workshop.spawn(change_id, resume=True)
    for _ in range(200):
        if workshop.sql("select 1 from pg_stat_progress_create_index where phase = 'waiting for old snapshots'"):
            break
        await asyncio.sleep(0.05)
    kill(pid)
    for _ in range(200):
        if not workshop.sql("select 1 from pg_stat_activity where application_name like 'ixp:%'"):
            break
        await asyncio.sleep(0.1)
    held.close()
    await asyncio.sleep(5)  # its lease ends
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(change_id)
    assert change.state in (State.FAILED, State.NEEDS_OPERATOR), story(change)
    if change.state is State.NEEDS_OPERATOR:
        assert workshop.invalid() == ["app.spare"], story(change)  # as before, and asked again
    else:
        assert workshop.invalid() == []
        assert "repaired" in actions(change), story(change)
    check_intents(change)


@pytest.mark.family(14)
async def test_the_person_who_ran_it_does_not_settle_it(workshop: Workshop) -> None:
    change_id = await half_dropped(workshop)
    workshop.sql("grant indexpilot_approver to w_operator")
    try:
        with pytest.raises(JournalRefusedError) as caught:
            await workshop.journal.resolve(change_id, "finish", "I am sure")
        assert caught.value.code == "self_approval"
    finally:
        workshop.sql("revoke indexpilot_approver from w_operator")
    with pytest.raises(JournalRefusedError) as caught:  # it would end as failed, with its index gone
        await workshop.approver.resolve(change_id, State.CLEANING, "away with it")
    assert caught.value.code == "decision"
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute("drop index app.spare")
    await workshop.approver.resolve(change_id, State.VERIFYING, "somebody finished it by hand")
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    assert (await workshop.journal.change(change_id)).state is State.DONE


@pytest.mark.family(14)
async def test_a_live_drop_is_adopted_by_the_successor(either: Workshop) -> None:
    """Its executor sleeps; whoever takes over watches the backend to its end and sends nothing twice."""
    either.sql(f"set role {OWNER}; create index spare on app.t (w)")
    change_id = await either.approved("drop index app.spare")
    reader = either.blocker("select 1 from app.t")
    pid = await either.spawn(change_id)
    await either.until_event(change_id, "ddl.intent")
    for _ in range(100):
        if either.invalid():
            break
        await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    second = await either.spawn(change_id, resume=True)
    await either.until_event(change_id, "takeover", 20)
    reader.close()
    change = await either.until(change_id, State.OBSERVING, State.DONE, seconds=30)
    os.kill(pid, signal.SIGKILL)
    assert actions(change).count("ddl.intent") == 1
    assert "spare" not in either.indexes()
    assert alive(second) or change.state is State.DONE
    check_intents(change)
