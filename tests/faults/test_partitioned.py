"""An index of a partitioned table as one change: built part by part, stopped and killed in the middle, taken back."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from indexpilot_tui.engine.changes.agreement import disagreement
from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.changes.rollback import plan_rollback, propose_rollback
from indexpilot_tui.engine.model.change import Plan, State
from indexpilot_tui.errors import RefusedError, UsageError
from tests.faults.workshop import OWNER, Workshop, actions, check_intents, kill, quick, story

OLD_SNAPSHOT = ("set transaction isolation level repeatable read", "select 1 from app.other")
# two levels: p -> p_low (partitioned) -> p_a, p_b; p -> p_c
TABLES = """
set role w_owner;
create table app.p (id int not null, k int not null, w text) partition by range (k);
create table app.p_low partition of app.p for values from (0) to (200) partition by range (k);
create table app.p_a partition of app.p_low for values from (0) to (100);
create table app.p_b partition of app.p_low for values from (100) to (200);
create table app.p_c partition of app.p for values from (200) to (300);
insert into app.p select i, i % 300, md5(i::text) from generate_series(1, 9000) i;
analyze app.p;
"""
DDL = "create index on app.p (w)"
STATE = """select c.relname::text, i.indisvalid, (select p.relname::text from pg_inherits h join pg_class p on p.oid = h.inhparent
 where h.inhrelid = c.oid) from pg_index i join pg_class c on c.oid = i.indexrelid
 where c.relnamespace = 'app'::regnamespace and c.relname like 'p%' order by 1"""
WHOLE = [
    ("p_a_w_idx", True, "p_low_w_idx"), ("p_b_w_idx", True, "p_low_w_idx"), ("p_c_w_idx", True, "p_w_idx"),
    ("p_low_w_idx", True, "p_w_idx"), ("p_w_idx", True, None),
]  # fmt: skip


async def plan_of(workshop: Workshop, ddl: str) -> Plan:
    return await workshop.plan(ddl)


async def until_building(workshop: Workshop, change_id: int, table: str) -> None:
    """Wait until the build on this partition is at work (and stands still behind whoever holds it up)."""
    for _ in range(300):
        if workshop.sql("select 1 from pg_stat_progress_create_index where relid = %s::regclass", f"app.{table}"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(story(await workshop.journal.change(change_id)))


async def until_gone(workshop: Workshop) -> None:
    """Wait until the server has noticed that the executor is dead."""
    for _ in range(200):
        if not workshop.sql("select 1 from pg_stat_activity where application_name like 'ixp:%'"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the backend of a dead executor is still there")


async def test_a_whole_partitioned_table_is_indexed_part_by_part(either: Workshop) -> None:
    either.sql(TABLES)
    change_id = await either.approved(DDL)
    await either.spawn(change_id)
    change = await either.until(change_id, State.OBSERVING)
    check_intents(change)
    assert either.sql(STATE) == WHOLE
    assert change.index_valid
    assert change.index_oid == either.sql("select 'app.p_w_idx'::regclass::oid::int8")[0][0]
    verified = next(e.detail for e in change.events if e.action == "verified")
    assert (verified["partitions"], verified["covered"]) == (3, 3)
    assert verified["size_bytes"] > 0
    sent = [e.detail["ddl"] for e in change.events if e.action == "part.intent"]
    assert len(sent) == 2 + 3 + 4
    assert sent[:2] == ["CREATE INDEX p_w_idx ON ONLY app.p USING btree (w)",
                        "CREATE INDEX p_low_w_idx ON ONLY app.p_low USING btree (w)"]  # fmt: skip
    assert all("CONCURRENTLY" in ddl for ddl in sent[2:5])
    assert (await either.journal.rate_status(50, 3600)).used == 1  # one change, one slot
    assert either.sql("select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]


async def test_a_partition_that_is_made_meanwhile_has_its_part(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("lock table app.p_c in row exclusive mode")
    await workshop.spawn(change_id)
    await until_building(workshop, change_id, "p_c")
    workshop.sql(f"set role {OWNER}; create table app.p_d partition of app.p for values from (300) to (400)")
    writer.close()
    change = await workshop.until(change_id, State.OBSERVING)
    verified = next(e.detail for e in change.events if e.action == "verified")
    assert (verified["partitions"], verified["covered"]) == (4, 4)


@pytest.mark.family(5)
async def test_kill_of_the_executor_in_the_middle_is_carried_on_from_there(either: Workshop) -> None:
    either.sql(TABLES)
    change_id = await either.approved(DDL)
    writer = either.blocker("lock table app.p_b in row exclusive mode")
    pid = await either.spawn(change_id)
    await until_building(either, change_id, "p_b")
    first = either.sql("select 'app.p_a_w_idx'::regclass::oid::int8, 'app.p_w_idx'::regclass::oid::int8")
    kill(pid)
    await until_gone(either)
    writer.close()
    await reconcile(either.target, either.settings, either.journal, detach=False)
    change = await either.journal.change(change_id)
    assert change.state is State.DONE, story(change)
    assert either.sql(STATE) == WHOLE
    assert either.invalid() == []
    # what was built before the kill was not built again
    assert either.sql("select 'app.p_a_w_idx'::regclass::oid::int8, 'app.p_w_idx'::regclass::oid::int8") == first
    assert "takeover" in actions(change)
    check_intents(change)


@pytest.mark.family(5)
async def test_a_live_part_is_adopted_by_the_successor(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    snapshot = workshop.blocker(*OLD_SNAPSHOT)
    pid = await workshop.spawn(change_id)
    for _ in range(200):
        if workshop.sql("select 1 from pg_stat_progress_create_index where phase = 'waiting for old snapshots'"):
            break
        await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    await workshop.spawn(change_id, resume=True)
    await workshop.until_event(change_id, "takeover", 20)
    snapshot.close()
    change = await workshop.until(change_id, State.OBSERVING, seconds=40)
    os.kill(pid, signal.SIGKILL)
    assert workshop.sql(STATE) == WHOLE
    builds = [e.detail["position"] for e in change.events if e.action == "part.intent"]
    assert len(builds) == len(set(builds)), "no step was taken twice"
    check_intents(change)


@pytest.mark.family(5)
async def test_abort_in_the_middle_leaves_nothing(either: Workshop) -> None:
    either.sql(TABLES)
    change_id = await either.approved(DDL)
    writer = either.blocker("lock table app.p_b in row exclusive mode")
    await either.spawn(change_id)
    await until_building(either, change_id, "p_b")
    await either.journal.request_abort(change_id, "wrong night")
    await either.until_event(change_id, "give_up")
    writer.close()
    change = await either.until(change_id, State.FAILED, seconds=40)
    assert "wrong night" in change.outcome
    assert either.sql(STATE) == []
    assert {part.state for part in (await either.journal.parts(change_id)).values()} == {"cleaned"}
    check_intents(change)


@pytest.mark.family(5)
async def test_kill_while_cleaning_up_goes_on_cleaning(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("lock table app.p_c in row exclusive mode")
    pid = await workshop.spawn(change_id)
    await until_building(workshop, change_id, "p_c")
    await workshop.journal.request_abort(change_id, "wrong night")
    await workshop.until_event(change_id, "clean.intent")  # the drop waits for the writer
    kill(pid)
    writer.close()
    await until_gone(workshop)
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(change_id)
    assert change.state is State.FAILED, story(change)
    assert workshop.sql(STATE) == []


@pytest.mark.family(13)
async def test_duplicates_in_one_partition_leave_nothing(either: Workshop) -> None:
    either.sql(TABLES)
    # not committed when they are counted
    writer = either.blocker("insert into app.p values (1, 250, 'a'), (1, 250, 'b')")
    change_id = await either.approved("create unique index on app.p (id, k)")
    await either.spawn(change_id)
    for _ in range(100):  # the index of the whole waits for its moment behind the writer
        if any(e.action == "part.outcome" for e in (await either.journal.change(change_id)).events):
            break
        await asyncio.sleep(0.05)
    writer.commit()
    change = await either.until(change_id, State.FAILED, seconds=40)
    assert either.sql(STATE) == [], story(change)
    assert either.invalid() == []
    check_intents(change)


async def test_what_stood_on_a_partition_before_is_taken_in_and_never_removed(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    workshop.sql(f"set role {OWNER}; create index theirs on app.p_c (w)")
    plan = await plan_of(workshop, DDL)
    assert [item["index"] for item in plan.saved["adopted"]] == ["app.theirs"]
    oid = workshop.sql("select 'app.theirs'::regclass::oid::int8")
    change_id = await workshop.approved(DDL)
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    assert workshop.sql("select 'app.theirs'::regclass::oid::int8") == oid
    assert ("theirs", True, "p_w_idx") in workshop.sql(STATE.replace("like 'p%'", "like '%'"))
    with pytest.raises(RefusedError, match=r"app\.theirs"):
        await plan_rollback(workshop.monitor, change)


@pytest.mark.family(3)
async def test_the_way_back_drops_the_whole_without_queueing_traffic(either: Workshop) -> None:
    either.sql(TABLES)
    change_id = await either.approved(DDL)
    await either.spawn(change_id)
    change = await either.until(change_id, State.OBSERVING)
    child = await propose_rollback(either.monitor, either.journal, change, "not needed")
    plan = (await either.journal.change(child)).plan
    assert [step.ddl for step in plan.steps] == ['DROP INDEX "app"."p_w_idx"']
    reader = either.blocker("select 1 from app.p_b")
    worst = [0.0]
    stop = threading.Event()

    def read() -> None:
        with psycopg.connect(either.cluster.conninfo(either.dbname), autocommit=True) as conn:
            while not stop.is_set():
                start = time.monotonic()
                conn.execute("select 1 from app.p where k = 250 limit 1")
                worst[0] = max(worst[0], time.monotonic() - start)
                time.sleep(0.02)

    thread = threading.Thread(target=read)
    thread.start()
    await either.spawn(child)
    await either.until_event(child, "part.outcome")  # the first try gives up its lock
    await asyncio.sleep(1)
    reader.close()
    back = await either.until(child, State.DONE)
    stop.set()
    thread.join()
    outcomes = [e.detail for e in back.events if e.action == "part.outcome"]
    assert outcomes[0]["sqlstate"] == "55P03"
    assert outcomes[-1]["ok"] is True
    assert worst[0] < 3, worst
    assert either.sql(STATE) == []
    assert (await either.journal.change(change_id)).state is State.ROLLED_BACK
    check_intents(back)


@pytest.mark.family(1)
async def test_readers_that_never_end_leave_it_to_a_person_who_may_finish_or_clean(workshop: Workshop) -> None:
    """All parts are built; joining one wants a moment without a reader of it, and there is none."""
    workshop.settings = quick(max_attempts=1)
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    await workshop.spawn(change_id)
    look = workshop.admin()
    built = "select 1 from pg_index join pg_class c on c.oid = indexrelid where relname = 'p_a_w_idx' and indisvalid"
    for _ in range(4000):  # a reader that comes before the build has ended would hold that up, for good
        if look.execute(built.encode()).fetchone():
            break
        await asyncio.sleep(0.005)
    reader = workshop.blocker("select 1 from app.p_a where w = ''")
    change = await workshop.until(change_id, State.NEEDS_OPERATOR, State.OBSERVING, seconds=60)
    if change.state is State.OBSERVING:
        pytest.fail("the reader came too late to be in the way\n" + story(change))
    assert "of 3 partitions are built" in change.outcome
    assert sorted(workshop.invalid()) == ["app.p_low_w_idx", "app.p_w_idx"]  # no storage, no cost
    reader.close()
    await workshop.approver.resolve(change_id, "finish", "the report has ended")
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(change_id)
    assert change.state is State.DONE, story(change)
    assert workshop.sql(STATE) == WHOLE


@pytest.mark.family(5)
async def test_kill_while_the_parts_are_joined_is_carried_on(either: Workshop) -> None:
    either.sql(TABLES)
    change_id = await either.approved(DDL)
    pid = await either.spawn(change_id)
    for _ in range(400):
        if either.sql("select 1 from pg_class where relname = 'p_c_w_idx'"):
            break
        await asyncio.sleep(0.02)
    reader = either.blocker("select 1 from app.p_c where w = ''")  # its index cannot be joined as long as this goes on
    for _ in range(300):
        parts = await either.journal.parts(change_id)
        if any(
            plan_step.deed == "attach" and n in parts
            for n, plan_step in enumerate((await either.journal.change(change_id)).plan.steps)
        ):
            break
        await asyncio.sleep(0.02)
    kill(pid)
    reader.close()
    await until_gone(either)
    await reconcile(either.target, either.settings, either.journal, detach=False)
    change = await either.journal.change(change_id)
    assert change.state is State.DONE, story(change)
    assert either.sql(STATE) == WHOLE
    check_intents(change)


async def test_the_gates_are_asked_before_each_part_and_a_person_says_what_becomes_of_the_rest(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("lock table app.p_c in row exclusive mode")  # it is built first
    await workshop.spawn(change_id)
    await until_building(workshop, change_id, "p_c")
    await workshop.approver.stop_starts("a release runs")
    writer.close()
    change = await workshop.until(change_id, State.NEEDS_OPERATOR)
    assert "kill_switch block" in change.outcome
    assert "1 of 3 partitions are built" in change.outcome
    built = [e.detail["ddl"] for e in change.events if e.action == "part.intent"]
    assert not any("app.p_a " in ddl for ddl in built), "the next part was begun"
    await workshop.approver.resolve(change_id, State.CLEANING, "not this week")
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    change = await workshop.journal.change(change_id)
    assert change.state is State.FAILED, story(change)  # cleaning up is held back by no switch
    assert workshop.sql(STATE) == []
    check_intents(change)


async def test_a_window_that_closes_in_the_middle_keeps_what_was_built(workshop: Workshop) -> None:
    """The build at work is stopped and its leftover removed; the parts before it are good, and a person says when to go on."""
    now = datetime.now(UTC)
    start, end = now - timedelta(minutes=2), now + timedelta(seconds=80)  # to the minute: 20 to 80 s from now
    window = {"start_hour": start.hour, "start_minute": start.minute, "end_hour": end.hour, "end_minute": end.minute}
    limits = workshop.settings.production_safeguards
    closing = replace(limits.maintenance_window, **{"enabled": True, **window})
    workshop.settings = replace(workshop.settings, production_safeguards=replace(limits, maintenance_window=closing))
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("lock table app.p_a in row exclusive mode")
    await workshop.spawn(change_id)
    await until_building(workshop, change_id, "p_a")
    await workshop.until_event(change_id, "leftover", 90)
    writer.close()
    change = await workshop.until(change_id, State.NEEDS_OPERATOR, seconds=60)
    assert "the window closed" in change.outcome
    assert "1 of 3 partitions are built" in change.outcome
    assert sorted(workshop.invalid()) == ["app.p_low_w_idx", "app.p_w_idx"]
    await workshop.approver.resolve(change_id, State.CLEANING, "another time")
    await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
    assert workshop.sql(STATE) == []


async def test_a_gate_that_passes_by_itself_is_waited_for_between_the_parts(workshop: Workshop) -> None:
    limits = workshop.settings.production_safeguards
    strict = replace(limits.blockers, max_writer_age_seconds=0.0)
    workshop.settings = replace(workshop.settings, production_safeguards=replace(limits, blockers=strict))
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("lock table app.p_b in row exclusive mode")
    await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "requeued", 30)
    assert "before p_b: blockers" in str([e.detail for e in change.events if e.action == "requeued"])
    oid = workshop.sql("select 'app.p_a_w_idx'::regclass::oid::int8")
    writer.close()
    change = await workshop.until(change_id, State.OBSERVING, seconds=60)
    assert workshop.sql(STATE) == WHOLE
    assert workshop.sql("select 'app.p_a_w_idx'::regclass::oid::int8") == oid
    assert (await workshop.journal.rate_status(50, 3600)).used == 1


async def test_a_part_can_be_rebuilt_alone_and_stays_a_part(either: Workshop) -> None:
    either.sql(TABLES)
    either.sql(f"set role {OWNER}; {DDL}")
    change_id = await either.approved("reindex index app.p_a_w_idx")
    await either.spawn(change_id)
    await either.until(change_id, State.OBSERVING)
    assert either.sql(STATE) == WHOLE


@pytest.mark.parametrize(
    ("setup", "ddl", "message"),
    [
        ("", "create unique index on app.p (id)", "lacks k"),
        ("alter table app.p_c owner to w_other", DDL, "belongs to w_other"),
        (
            "create index q on app.p_c (id); alter index app.q rename to p_w_idx",
            "create index p_w_idx on app.p (w)",
            "name is taken",
        ),
        ("create index o on only app.p (w)", "create index z on app.p (w)", "same index exists already (INVALID"),
        ("create foreign table app.p_f partition of app.p for values from (300) to (400) server away", DDL, "foreign table"),
    ],
)
async def test_what_is_refused_and_why(workshop: Workshop, setup: str, ddl: str, message: str) -> None:
    workshop.sql(TABLES)
    workshop.sql(
        "do $$begin create role w_other; exception when duplicate_object then null; end$$;"
        "create foreign data wrapper nowhere; create server away foreign data wrapper nowhere;"
        f"grant usage on foreign server away to {OWNER}"
    )
    workshop.theirs.add("app.o")  # INVALID, and none of ours
    role = "" if "owner to" in setup else f"set role {OWNER};"
    if setup:
        workshop.sql(f"{role} {setup}")
    with pytest.raises(UsageError) as caught:
        await plan_of(workshop, ddl)
    workshop.sql("reassign owned by w_other to w_owner")
    assert message in str(caught.value)


async def test_partitions_that_changed_since_the_plan_are_refused_before_anything_is_made(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved(DDL)
    workshop.sql(f"set role {OWNER}; create table app.p_d partition of app.p for values from (300) to (400)")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.FAILED)
    assert "was not planned for" in change.outcome
    assert workshop.sql(STATE) == []


async def test_steps_are_only_what_follows_from_the_plan(workshop: Workshop) -> None:
    workshop.sql(TABLES)
    plan = await plan_of(workshop, DDL)
    assert disagreement(plan) == ""
    forged = [
        dataclasses.replace(plan.steps[2], ddl="DROP TABLE app.other"),
        dataclasses.replace(plan.steps[2], deed="drop", ddl='DROP INDEX "app"."p_w_idx"'),
        dataclasses.replace(plan.steps[2], table="other"),
        dataclasses.replace(plan.steps[2], ddl=plan.steps[2].ddl.replace(" CONCURRENTLY", "")),
    ]
    for step in forged:
        assert disagreement(dataclasses.replace(plan, steps=(*plan.steps[:2], step, *plan.steps[3:])))
    last = dataclasses.replace(
        plan.steps[-1], index="other_pkey", ddl='ALTER INDEX "app"."p_w_idx" ATTACH PARTITION "app"."other_pkey"'
    )
    assert disagreement(dataclasses.replace(plan, steps=(*plan.steps[:-1], last)))
    assert Plan.from_json(plan.to_json()) == plan
