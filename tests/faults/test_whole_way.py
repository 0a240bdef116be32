"""The whole way of a change on a real server: created, dropped, taken back, judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.settings.model import Settings
from tests.faults.workshop import Workshop, actions, check_intents, story


async def test_create_is_built_verified_and_observed(workshop: Workshop) -> None:
    app = workshop.admin()
    change_id = await workshop.approved("create index on app.t (v)")
    for _ in range(100):  # enough for a spread that a busy machine makes
        app.execute("select count(*) from app.t where v = 5")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    assert workshop.indexes() == ["other_pkey", "t_pkey", "t_v_idx"]
    for _ in range(100):  # enough for a spread that a busy machine makes
        app.execute("select count(*) from app.t where v = 5")
    change = await workshop.until(change_id, State.DONE)
    assert change.index_valid
    assert change.index_oid == workshop.sql("select 'app.t_v_idx'::regclass::oid::int8")[0][0]
    assert change.verification is not None
    assert change.verification.verdict == "improved", change.verification.queries
    check_intents(change)
    order = [
        a for a in actions(change) if a in ("claimed", "backend", "ddl.intent", "ddl.outcome", "verify.intent", "verified")
    ]
    assert order == ["claimed", "backend", "ddl.intent", "ddl.outcome", "verify.intent", "verified"], story(change)
    assert workshop.sql("select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]


async def test_rollback_of_a_create_drops_it_and_ends_the_parent(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v) where w <> ''")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "not needed")
    assert child == await propose_rollback(workshop.monitor, workshop.journal, change, "asked twice")
    await workshop.spawn(child)
    back = await workshop.until(child, State.DONE)
    check_intents(back)
    assert "t_v_idx" not in workshop.indexes()
    parent = await workshop.journal.change(change_id)
    assert parent.state is State.ROLLED_BACK
    assert await workshop.journal.rate_status(50, 3600) == await workshop.journal.rate_status(50, 3600)
    assert (await workshop.journal.rate_status(50, 3600)).used == 1  # the way back takes no slot


async def test_a_dropped_index_comes_back_as_it_was(workshop: Workshop) -> None:
    workshop.sql("set role w_owner; create index old_one on app.t (lower(w) desc, v) with (fillfactor = 70)")
    workshop.sql("comment on index app.old_one is 'kept by ''hand'''")
    workshop.sql("alter index app.old_one alter column 1 set statistics 300; alter table app.t cluster on old_one")
    before = workshop.sql("select pg_get_indexdef('app.old_one'::regclass)")
    change_id = await workshop.approved("drop index app.old_one")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    assert "old_one" not in workshop.indexes()
    assert change.plan.saved["comment"] == "kept by 'hand'"
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "it was needed")
    await workshop.spawn(child)
    back = await workshop.until(child, State.DONE)
    check_intents(back)
    assert workshop.sql("select pg_get_indexdef('app.old_one'::regclass)") == before
    assert workshop.sql("select obj_description('app.old_one'::regclass)") == [("kept by 'hand'",)]
    assert workshop.sql("select indisclustered from pg_index where indexrelid = 'app.old_one'::regclass") == [(True,)]
    target = "select attstattarget from pg_attribute where attrelid = 'app.old_one'::regclass and attnum = 1"
    assert workshop.sql(target) == [(300,)]
    assert workshop.sql("select count(*) > 0 from pg_stats where tablename = 'old_one'") == [(True,)]  # analyzed
    assert (await workshop.journal.change(change_id)).state is State.ROLLED_BACK


async def test_a_regression_is_said_and_the_way_back_proposed_but_not_gone(workshop: Workshop) -> None:
    statement = "select count(*), pg_sleep({}) from app.t where v = 5"
    change_id = await workshop.approved("create index on app.t (v)")
    for n in range(10):
        workshop.sql(statement.format(0.001 + n / 1e5))
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    for n in range(10):
        workshop.sql(statement.format(0.1 + n / 1e4))
    change = await workshop.until(change_id, State.DONE)
    assert change.verification is not None
    assert change.verification.verdict == "regressed", change.verification
    children = [c for c in await workshop.journal.changes(10) if c.parent_id == change_id]
    assert [c.state for c in children] == [State.PROPOSED]
    assert f"rollback proposed as change {children[0].id}" in change.outcome
    assert "t_v_idx" in workshop.indexes()


def judged_by(settings: Settings, **changed: object) -> Settings:
    return replace(settings, verification=replace(settings.verification, **changed))


SLOW = "select count(*), pg_sleep({}) from app.t where v = 5"


@pytest.mark.parametrize("policy", ["off", "perform"])
async def test_a_regression_does_what_the_policy_says(workshop: Workshop, policy: str) -> None:
    workshop.settings = judged_by(workshop.settings, auto_revert=policy)
    change_id = await workshop.approved("create index on app.t (v)")
    for n in range(10):
        workshop.sql(SLOW.format(0.001 + n / 1e5))
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    for n in range(10):
        workshop.sql(SLOW.format(0.1 + n / 1e4))
    if policy == "off":
        change = await workshop.until(change_id, State.DONE)
        children = [c for c in await workshop.journal.changes(10) if c.parent_id == change_id]
        assert "auto_revert: off" in change.outcome
        assert not children
        assert "t_v_idx" in workshop.indexes()
        return
    change = await workshop.until_event(change_id, "auto_revert", 40, after_end=True)
    (child,) = [c for c in await workshop.journal.changes(10) if c.parent_id == change_id]
    back = await workshop.until(child.id, State.DONE, seconds=40)
    assert (await workshop.journal.change(change_id)).state is State.ROLLED_BACK
    assert "t_v_idx" not in workshop.indexes()
    assert back.approvals == ()  # covered by the approval of what it takes back
    assert "gates" in actions(back)
    assert next(e.detail["started"] for e in change.events if e.action == "auto_revert") is True
    check_intents(back)


async def test_a_rollback_that_a_gate_holds_up_stays_proposed(workshop: Workshop) -> None:
    workshop.settings = judged_by(workshop.settings, auto_revert="perform")
    change_id = await workshop.approved("create index on app.t (v)")
    for n in range(10):
        workshop.sql(SLOW.format(0.001 + n / 1e5))
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    for n in range(10):
        workshop.sql(SLOW.format(0.1 + n / 1e4))
    await workshop.approver.stop_starts("a release runs")
    await workshop.until_event(change_id, "auto_revert", after_end=True)
    (child,) = [c for c in await workshop.journal.changes(10) if c.parent_id == change_id]
    refused = await workshop.until_event(child.id, "apply.refused")
    assert refused.state is State.PROPOSED
    assert "t_v_idx" in workshop.indexes()
    assert "a release runs" in str([e.detail for e in refused.events if e.action == "apply.refused"])


async def test_the_verdict_names_plans_write_latency_wal_and_hot(either: Workshop) -> None:
    """A reader gets another plan, a writer loses its HOT updates and writes more WAL: both are told. (The gate that would
    refuse such an index is off.)"""
    limits = either.settings.production_safeguards
    lifted = replace(limits.write_performance, write_overhead_threshold=1.0)
    limits = replace(limits, write_performance=lifted)
    either.settings = replace(either.settings, production_safeguards=limits)
    either.sql("grant usage on schema app to w_planner; grant select on app.t to w_planner")
    either.sql("alter table app.t set (fillfactor = 50)")
    either.sql("set role w_owner; create table app.t2 (like app.t including all) with (fillfactor = 50)")
    either.sql("insert into app.t2 select * from app.t; analyze app.t2; grant select on app.t2 to w_planner")

    def work() -> None:
        worker = either.admin()
        for n in range(150):  # so many that a few slow ones, of a busy machine, leave no doubt
            worker.execute(f"select count(*) from app.t2 where v = {n}".encode())
            worker.execute(f"update app.t2 set v = v + 1 where id = {n + 1}".encode())
        worker.close()  # which hands its counters over

    change_id = await either.approved("create index on app.t2 (v)")
    work()
    await either.spawn(change_id)
    await either.until(change_id, State.OBSERVING)
    work()
    change = await either.until(change_id, State.DONE, seconds=40)
    verification = change.verification
    assert verification is not None
    reader = next(q for q in verification.queries if q.query.startswith("select count"))
    assert (reader.verdict, reader.plan) == ("improved", "changed"), verification
    writes = verification.writes
    assert writes is not None
    assert writes.hot_before_pct is not None
    assert writes.hot_after_pct is not None
    assert writes.hot_before_pct > 80
    assert writes.hot_after_pct < 20
    assert writes.wal_before is not None
    assert writes.wal_after is not None
    assert writes.wal_after > 1.2 * writes.wal_before
    for word in ("plans of", "changed", "WAL a call", "HOT"):
        assert word in verification.reason, verification.reason
    stored = str(await either.journal.stats(change_id))
    assert "Seq Scan" not in stored  # fingerprints, no plans


async def test_plans_come_from_the_shadow_where_the_login_may_not_explain(workshop: Workshop) -> None:
    workshop.sql("grant pg_read_all_stats to w_operator")
    workshop.settings = judged_by(workshop.settings, plans="auto")
    change_id = await workshop.approved("create index on app.t (v)")
    for n in range(20):
        workshop.sql(f"select count(*) from app.t where v = {n}")
        workshop.sql(f"select count(*) from app.t where w = '{n}'")
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    for n in range(20):
        workshop.sql(f"select count(*) from app.t where v = {n}")
        workshop.sql(f"select count(*) from app.t where w = '{n}'")
    change = await workshop.until(change_id, State.DONE, seconds=60)
    assert "from the shadow" in str([e.detail for e in change.events if e.action == "plans"]), story(change)
    assert change.verification is not None
    plans = {q.query[-6:]: q.plan for q in change.verification.queries}
    assert plans["v = $1"] == "changed"
    assert plans["w = $1"] == "unchanged"


async def test_keep_ends_the_observation(workshop: Workshop) -> None:
    from indexpilot_tui.engine.changes.keeping import keep

    workshop.settings = judged_by(workshop.settings, window_seconds=600.0)
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    await keep(workshop.journal, change_id)
    change = await workshop.until(change_id, State.DONE, seconds=10)
    assert change.verification is not None
