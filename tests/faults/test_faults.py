"""What goes wrong at 3 a.m., on a real server: kills, rivals, a journal that cannot be written, a stale executor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import psycopg
import pytest

from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.model.change import State
from tests.faults.scenes import OLD_SNAPSHOT, building
from tests.faults.workshop import Workshop, actions, alive, check_intents, kill, story


@pytest.mark.family(5)
async def test_kill_of_the_executor_in_mid_build_is_cleaned_up_by_the_next_start(workshop: Workshop) -> None:
    change_id, pid, held = await building(workshop, "create unique index on app.t (id, v)", *OLD_SNAPSHOT)
    kill(pid)
    assert workshop.invalid() == ["app.t_id_v_idx"]
    held.close()
    for _ in range(150):  # the server notices within client_connection_check_interval, or the build ends first
        if not workshop.sql("select 1 from pg_stat_activity where application_name like 'ixp:%'"):
            break
        await asyncio.sleep(0.1)
    lines = await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(change_id)
    assert len(lines) == 1, lines
    assert workshop.invalid() == []
    assert change.state in (State.FAILED, State.DONE), story(change)
    assert ("t_id_v_idx" in workshop.indexes()) == (change.state is State.DONE)
    check_intents(change)


@pytest.mark.family(5)
async def test_kill_while_blocked_ends_failed_with_the_leftover_removed(workshop: Workshop) -> None:
    change_id, pid, held = await building(workshop, "create unique index on app.t (id, v)", *OLD_SNAPSHOT)
    kill(pid)
    task = asyncio.create_task(reconcile(workshop.target, workshop.settings, workshop.journal, detach=False))
    await workshop.until_event(change_id, "takeover", 15)
    # the backend is still there until it notices (10 s): it is watched, not doubled
    await workshop.until(change_id, State.CLEANING, State.FAILED, seconds=30)
    held.close()
    lines = await asyncio.wait_for(task, 30)
    change = await workshop.journal.change(change_id)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == []
    assert str(change_id) in lines[0]
    assert "clean.intent" in actions(change)
    check_intents(change)


@pytest.mark.family(5)
async def test_kill_while_observing_goes_on_from_the_stored_times(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    pid = await workshop.spawn(change_id)
    before = await workshop.until(change_id, State.OBSERVING)
    kill(pid)
    lines = await reconcile(workshop.target, workshop.settings, workshop.journal)
    change = await workshop.until(change_id, State.DONE, seconds=30)
    assert lines == []  # its lease had not ended, so nothing was said of it yet
    assert change.observe_until == before.observe_until
    assert change.verification is not None
    assert actions(change).count("ddl.intent") == 1


@pytest.mark.family(6)
async def test_kill_of_the_console_does_not_reach_the_executor(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    held = workshop.blocker(*OLD_SNAPSHOT)
    program = (
        "import asyncio, sys, time\n"
        "from indexpilot_tui.engine.changes.executor import spawn\n"
        "from indexpilot_tui.engine.changes.job import Job\n"
        "from indexpilot_tui.settings.validated import validated_json\n"
        "job = validated_json(Job, sys.stdin.read())\n"
        "print(asyncio.run(spawn(job.target, job.settings, job.change_id)), flush=True)\n"
        "time.sleep(100)\n"
    )
    from indexpilot_tui.engine.changes.job import Job

    job = Job(target=workshop.target, settings=workshop.settings, change_id=change_id)
    console = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert console.stdin is not None
    assert console.stdout is not None
    console.stdin.write(job.to_json().encode())
    console.stdin.close()
    pid = int(await asyncio.wait_for(console.stdout.readline(), 30))
    await workshop.until_event(change_id, "ddl.intent")
    os.killpg(console.pid, signal.SIGHUP)
    with suppress(ProcessLookupError):  # the hang-up was enough
        os.killpg(console.pid, signal.SIGKILL)
    await console.wait()
    assert alive(pid)
    held.close()
    change = await workshop.until(change_id, State.OBSERVING)
    assert change.index_valid
    kill(pid)


@pytest.mark.family(3)
async def test_an_alter_table_behind_our_build_is_let_through(workshop: Workshop) -> None:
    change_id, _, held = await building(workshop, "create index on app.t (v)", *OLD_SNAPSHOT)
    took: list[float] = []

    def deploy() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            start = time.monotonic()
            conn.execute("alter table app.t add column extra int")
            took.append(time.monotonic() - start)

    with workshop.traffic() as worst:
        await asyncio.sleep(0.5)
        thread = threading.Thread(target=deploy)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0.5)
    print(
        f"ALTER TABLE waited {took[0]:.2f} s; longest wait of reader {worst['reader']:.2f} s, writer {worst['writer']:.2f} s"
    )
    assert took[0] < 3
    assert worst["reader"] < 3
    assert worst["writer"] < 3
    held.close()
    change = await workshop.until(change_id, State.OBSERVING, State.DONE, seconds=40)
    assert "requeued" in actions(change)
    assert any(e.action == "cancel.intent" and e.detail["guard"] == "yield" for e in change.events), story(change)
    assert workshop.invalid() == []
    check_intents(change)


@pytest.mark.family(2)
async def test_a_rival_analyze_is_given_way_before_it_kills_the_build(workshop: Workshop) -> None:
    """Without the guard it would be a deadlock (test_rivals.py)."""
    change_id, _, held = await building(workshop, "create index on app.t (v)", "update app.t set v = 0 where id = 1")

    def rival() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            conn.execute("analyze app.t")

    thread = threading.Thread(target=rival)
    thread.start()
    await workshop.until_event(change_id, "cancel.intent")
    held.close()
    change = await workshop.until(change_id, State.OBSERVING, State.DONE, seconds=40)
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert workshop.invalid() == []
    requeued = [e for e in change.events if e.action == "requeued"]
    assert requeued, story(change)
    assert "analyze" in str(requeued[0].detail["why"]).lower(), requeued[0].detail
    assert "yield" in str([e.detail for e in change.events if e.action == "cancel.intent"])
    check_intents(change)


@pytest.mark.family(19)
async def test_no_ddl_when_the_journal_cannot_be_written(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    workshop.sql(
        "create function public.full() returns trigger language plpgsql as $$begin"
        " if new.action = 'ddl.intent' then raise 'disk full' using errcode = '53100'; end if; return new; end$$;"
        "grant usage on schema public to indexpilot_owner;"
        "create trigger refuse before insert on indexpilot.mutation_log for each row execute function public.full()"
    )
    pid = await workshop.spawn(change_id)
    for _ in range(200):
        if not alive(pid):
            break
        await asyncio.sleep(0.1)
    change = await workshop.journal.change(change_id)
    assert "t_v_idx" not in workshop.indexes()
    assert workshop.invalid() == []
    assert "ddl.intent" not in actions(change)
    assert change.state is State.FAILED, story(change)
    assert "disk full" in change.outcome


@pytest.mark.family(5)
async def test_a_stopped_executor_wakes_up_fenced_and_does_nothing(workshop: Workshop) -> None:
    change_id, pid, held = await building(workshop, "create index on app.t (v)", *OLD_SNAPSHOT)
    os.kill(pid, signal.SIGSTOP)
    second = await workshop.spawn(change_id, resume=True)
    change = await workshop.until_event(change_id, "takeover", 15)
    epoch = change.epoch
    held.close()
    change = await workshop.until(change_id, State.OBSERVING, seconds=30)
    os.kill(pid, signal.SIGCONT)
    for _ in range(100):
        if not alive(pid):
            break
        await asyncio.sleep(0.1)
    assert not alive(pid)
    change = await workshop.until(change_id, State.DONE)
    assert change.epoch == epoch
    assert change.index_valid
    assert actions(change).count("ddl.intent") == 1
    assert actions(change).count("verified") == 1
    assert "cancel.intent" not in actions(change), story(change)
    check_intents(change)
    for _ in range(50):
        if not alive(second):
            break
        await asyncio.sleep(0.1)


async def test_abort_cancels_cleans_and_fails(workshop: Workshop) -> None:
    change_id, pid, held = await building(workshop, "create index on app.t (v)", *OLD_SNAPSHOT)
    await workshop.journal.request_abort(change_id, "wrong night")
    await workshop.until_event(change_id, "clean.intent")
    held.close()
    change = await workshop.until(change_id, State.FAILED)
    assert "wrong night" in change.outcome
    assert workshop.invalid() == []
    check_intents(change)
    for _ in range(50):
        if not alive(pid):
            break
        await asyncio.sleep(0.1)
    assert not alive(pid)


@pytest.mark.family(5)
async def test_sigterm_of_the_executor_stops_in_order(workshop: Workshop) -> None:
    change_id, pid, held = await building(workshop, "create index on app.t (v)", *OLD_SNAPSHOT)
    os.kill(pid, signal.SIGTERM)
    await workshop.until_event(change_id, "clean.intent")
    held.close()
    change = await workshop.until(change_id, State.FAILED)
    assert workshop.invalid() == []
    assert "SIGTERM" in change.outcome


@pytest.mark.parametrize("who", ["executor", "observer", "control"])
@pytest.mark.family(8)
async def test_a_terminated_session_of_ours_ends_in_a_state_that_the_catalog_confirms(workshop: Workshop, who: str) -> None:
    change_id, _, held = await building(workshop, "create index on app.t (v)", *OLD_SNAPSHOT)
    pattern = {"executor": "ixp:%", "observer": "ixp-eye:%", "control": "indexpilot-control"}[who]
    ended = workshop.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like %s and datname = current_database()",
        pattern,
    )
    assert ended == [(True,)]
    await asyncio.sleep(1)
    held.close()
    wanted = (State.FAILED,) if who == "executor" else (State.OBSERVING, State.DONE)
    change = await workshop.until(change_id, *wanted, seconds=40)
    assert workshop.invalid() == []
    assert ("t_v_idx" in workshop.indexes()) == (who != "executor")
    check_intents(change)
