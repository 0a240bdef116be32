"""The way back is what the executor itself read before the deed: what a proposer said of it does not count."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from indexpilot_tui.engine.changes.rollback import plan_rollback, propose_rollback
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.safeguards.terms import terms_of
from tests.faults.workshop import Workshop, actions, check_intents, story

MADE = "set role w_owner; create index old_one on app.t (lower(w) desc, v) with (fillfactor = 70)"


async def _dropped(workshop: Workshop, **forged: object) -> int:
    """A DROP that is carried out, whose proposal says something else of the index than the catalog does."""
    workshop.sql(MADE)
    workshop.sql("comment on index app.old_one is 'kept'")
    plan = await workshop.plan("drop index app.old_one")
    plan = dataclasses.replace(plan, saved=plan.saved | forged)
    change_id = await workshop.journal.propose(plan, target="test", reason="a test")
    await workshop.approver.approve(change_id, plan.sha256, timedelta(hours=1))
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    return change_id


@pytest.mark.family(20)
async def test_what_a_proposer_said_of_the_index_does_not_come_back(workshop: Workshop) -> None:
    forged = "CREATE INDEX old_one ON app.t USING btree (id)"
    change_id = await _dropped(workshop, definition=forged, comment="forged", scans=0)
    change = await workshop.journal.change(change_id)
    assert change.way_back is not None
    assert "lower(w) DESC" in change.way_back.ddl
    kept = next(e.detail for e in change.events if e.action == "way_back")
    assert kept["plan_sha256"] == change.plan_sha256
    assert kept["sha256"] == change.way_back.sha256
    assert actions(change).index("way_back") < actions(change).index("ddl.intent")
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "it was needed")
    assert (await workshop.journal.change(child)).covered
    await workshop.spawn(child)
    back = await workshop.until(child, State.DONE)
    check_intents(back)
    assert back.approvals == ()
    assert "lower(w) DESC" in str(workshop.sql("select pg_get_indexdef('app.old_one'::regclass)"))
    assert workshop.sql("select obj_description('app.old_one'::regclass)") == [("kept",)]


@pytest.mark.family(20)
async def test_a_byte_that_differs_needs_an_approval_of_its_own(workshop: Workshop) -> None:
    change_id = await _dropped(workshop)
    change = await workshop.journal.change(change_id)
    plan = await plan_rollback(workshop.monitor, change)
    other = dataclasses.replace(plan, saved=plan.saved | {"restore": dict(plan.saved["restore"], comment="another")})
    child = await workshop.journal.propose(other, target="test", reason="x", parent_id=change_id, rollback=True)
    await workshop.spawn(child)
    refused = await workshop.until_event(child, "gates", after_end=True)
    assert (refused.state, refused.covered) == (State.PROPOSED, False), story(refused)
    assert [v.guard for v in refused.verdicts if not v.allows] == ["approval"]
    await workshop.approver.approve(child, other.sha256, timedelta(hours=1))
    await workshop.spawn(child)
    await workshop.until(child, State.DONE)
    assert workshop.sql("select obj_description('app.old_one'::regclass)") == [("another",)]


@pytest.mark.family(20)
async def test_a_renamed_table_needs_one_too(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.other (id)")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    assert change.way_back is not None
    assert change.way_back.ddl == "DROP INDEX CONCURRENTLY app.other_id_idx"
    workshop.sql("alter table app.other rename to another")
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "not needed")
    assert not (await workshop.journal.change(child)).covered
    workshop.sql("alter table app.another rename to other")
    await workshop.journal.withdraw(child, "the name is back")
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "not needed")
    assert (await workshop.journal.change(child)).covered
    await workshop.spawn(child)
    await workshop.until(child, State.DONE)


@pytest.mark.family(20)
async def test_looser_limits_than_the_approved_ones_do_not_start(workshop: Workshop) -> None:
    approved = workshop.settings
    change_id = await workshop.approved("create index on app.t (v)")
    observer = dataclasses.replace(approved.production_safeguards.observer, yield_after_seconds=9.0)
    loose = dataclasses.replace(approved.production_safeguards, observer=observer)
    workshop.settings = dataclasses.replace(approved, production_safeguards=loose)
    await workshop.spawn(change_id)
    refused = await workshop.until_event(change_id, "gates", after_end=True)
    assert refused.state is State.APPROVED
    (verdict,) = [v for v in refused.verdicts if not v.allows]
    assert (verdict.guard, verdict.measured) == ("approval", "looser limits")
    assert "observer.yield_after_seconds: 1.5 then, 9.0 now" in verdict.evidence
    workshop.settings = approved
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    for action in ("proposed", "claimed"):  # the approver and the auditor see with which limits
        detail = next(e.detail for e in change.events if e.action == action)
        terms = terms_of(workshop.target, approved)
        assert (detail["environment"], detail["safeguards_sha256"]) == ("development", terms["sha256"])
