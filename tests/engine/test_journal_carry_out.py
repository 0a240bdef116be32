"""Carrying a change out: fenced moves, intent before deed, rollback, abort, gates."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.journal.journal import Journal, Part, StaleEpochError
from indexpilot_tui.engine.model.change import END_STATES, Plan, QueryVerdict, State, Verification
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.errors import PrivilegeError, ServerError
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]


# -- carrying out ---------------------------------------------------------------------------------------------------------


async def test_a_whole_change_with_its_rollback(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    claim = await alice.claim(change_id, **claim_terms())
    start, until = datetime.now(UTC), datetime.now(UTC) + timedelta(minutes=5)
    await alice.set_backend(change_id, 1, 4711, start)
    await alice.advance(change_id, 1, State.STARTING, State.RUNNING, "ddl.intent", {"sql": claim.plan.ddl, "to": "x"})
    await alice.set_index(change_id, 1, 3_000_000_000, False)
    await alice.append(change_id, 1, "phase", {"phase": "building", "at": start})
    drop = make_plan(kind="drop", index_oid=3_000_000_000, ddl="DROP INDEX CONCURRENTLY public.orders_customer_idx")
    await refused(alice.keep_way_back(change_id, 1, drop), "state")  # nothing is verified yet
    await walk_from_running(alice, change_id, until, drop)
    await refused(alice.keep_way_back(change_id, 1, drop), "state")  # never again
    rows = [{"queryid": -5_000_000_000_000_000_001, "calls": 3, "mean": 0.5}]
    await alice.save_stats(change_id, 1, "start", start, None, rows)
    await alice.save_stats(change_id, 1, "start", start, until, rows)
    query = QueryVerdict("1", "select 1", 1, 2, 3.0, 4.0, "improved", "x")
    await alice.save_verification(change_id, 1, Verification("improved", "because", (query,), 5.0))

    change = await alice.change(change_id)
    assert (change.state, change.index_oid, change.index_valid) == (State.OBSERVING, 3_000_000_000, True)
    assert (change.outcome, change.observe_until) == ("built", until)
    assert change.verification == Verification("improved", "because", (query,), 5.0)
    actions = [event.action for event in change.events]
    assert actions[:6] == ["proposed", "approved", "claimed", "backend", "ddl.intent", "index"]
    intent = change.events[4].detail
    assert (intent["from"], intent["to"], intent["sql"]) == ("starting", "running", claim.plan.ddl)
    stored = (await alice.stats(change_id))["start"]
    assert (stored.taken_at, stored.stats_reset, stored.rows) == (start, until, tuple(rows))
    assert (await alice.run(change_id)).backend_start == start

    back = await alice.propose(drop, target="prod", reason="slower", parent_id=change_id, rollback=True)
    claim = await alice.claim(back, **claim_terms(rate_max=1))
    assert claim.slot is None
    await walk(alice, claim, State.RUNNING, State.VERIFYING, State.DONE)
    parent = await alice.change(change_id)
    assert (parent.state, parent.epoch) == (State.ROLLED_BACK, 2)
    assert parent.events[-1].action == "rolled_back"
    with pytest.raises(StaleEpochError):  # the parent's own executor, still observing
        await alice.advance(change_id, 1, State.OBSERVING, State.DONE, "kept", {})
    assert (await alice.verify_chain()).ok


async def walk_from_running(journal: Journal, change_id: int, until: datetime, back: Plan) -> None:
    await journal.advance(change_id, 1, State.RUNNING, State.VERIFYING, "ddl.outcome", {"ok": True})
    await journal.set_index(change_id, 1, 3_000_000_000, True)
    await journal.keep_way_back(change_id, 1, back)
    await journal.advance(
        change_id, 1, State.VERIFYING, State.OBSERVING, "verified", {"outcome": "built", "observe_until": until}
    )


async def test_a_rollback_is_the_opposite_of_its_parent_and_nothing_else(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    back: dict[str, Any] = {"target": "prod", "reason": "slower", "parent_id": change_id, "rollback": True}
    drop = make_plan(kind="drop", index_oid=77)
    await refused(alice.propose(drop, **back), "rollback")  # nothing was done yet
    claim = await alice.claim(change_id, **claim_terms())
    await alice.set_index(change_id, 1, 77, True)
    await walk(alice, claim, State.RUNNING, State.VERIFYING, State.OBSERVING)
    for wrong in (
        make_plan(),
        make_plan(kind="drop", index_oid=78),
        make_plan("other", kind="drop", index_oid=77),
        make_plan(kind="drop", index_oid=77, table_oid=1),
        make_plan(kind="drop", index_oid=77, system_identifier="1"),
    ):
        await refused(alice.propose(wrong, **back), "rollback")
    child = await alice.propose(drop, **back)
    await refused(alice.propose(drop, **back), "rollback")  # there is one already
    with room.admin() as conn:
        conn.execute("update indexpilot.approvals set at = at - interval '25 hours' where change_id = %s", (change_id,))
    await refused(alice.claim(child, **claim_terms()), "not_approved")
    await bob.approve(child, drop.sha256, timedelta(hours=1))
    assert (await alice.claim(child, **claim_terms())).slot is None


async def test_stale_epochs_and_wrong_states_do_nothing(room: Room) -> None:
    alice, olga, bob = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob")]
    change_id = await room.approved(alice, bob)
    assert await olga.takeover(change_id, 30) is None  # nobody runs it
    await alice.claim(change_id, **claim_terms(lease_s=0.2))
    assert await olga.orphans() == []
    assert await alice.renew(change_id, 1, 0.2)
    assert await olga.takeover(change_id, 30) is None  # somebody holds the lease
    await asyncio.sleep(0.3)
    assert await olga.orphans() == [change_id]
    assert (await olga.run(change_id)).lease_ended
    assert await olga.takeover(change_id, 30) == 2
    assert not await alice.renew(change_id, 1, 30)
    before = (await olga.change(change_id)).events
    for deed in (
        alice.append(change_id, 1, "ddl.intent", {}),
        alice.advance(change_id, 1, State.STARTING, State.RUNNING, "ddl.intent", {}),
        alice.set_backend(change_id, 1, 1, datetime.now(UTC)),
        alice.set_index(change_id, 1, 1, True),
        alice.save_verification(change_id, 1, Verification("improved", "", (), 1.0)),
        olga.advance(change_id, 2, State.RUNNING, State.VERIFYING, "ddl.outcome", {}),
    ):
        with pytest.raises(StaleEpochError):
            await deed
    after = await olga.change(change_id)
    assert (after.state, after.events) == (State.STARTING, before)
    await olga.advance(change_id, 2, State.STARTING, State.FAILED, "phase", {"outcome": "never began"})


async def test_only_legal_moves(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    with room.admin() as conn:
        legal = {(row[0], row[1]) for row in conn.execute("select from_state, to_state from indexpilot.transitions")}
        by_advance = {
            (row[0], row[1])
            for row in conn.execute("select from_state, to_state from indexpilot.transitions where made_by = 'advance'")
        }
    states = {str(state) for state in State}
    assert {name for move in legal for name in move} == states
    ends = {str(state) for state in END_STATES}
    assert {a for a, _ in legal} & ends == {"done"}  # a rollback alone may move a change that has ended
    assert (State.APPROVED, State.RUNNING) not in by_advance
    await refused(alice.advance(change_id, 0, State.APPROVED, State.RUNNING, "phase", {}), "state")
    await refused(alice.advance(change_id, 0, State.APPROVED, State.STARTING, "phase", {}), "state")
    proposed = await alice.propose(make_plan(), target="prod", reason="slow")
    await refused(alice.advance(proposed, 0, State.PROPOSED, State.QUEUED, "phase", {}), "not_approved")
    for action in ("approved", "claimed", "Bad", "", "a b"):
        with pytest.raises(ServerError, match="reserved or not one"):
            await alice.append(change_id, 0, action, {})


async def test_abort_is_asked_once_and_holds_a_queued_change(room: Room) -> None:
    alice, olga, bob = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob")]
    change_id = await room.approved(alice, bob)
    await refused(olga.request_abort(change_id, "stop"), "state")
    claim = await alice.claim(change_id, **claim_terms())
    assert await alice.abort_requested(change_id) is None
    await bob.request_abort(change_id, "release is coming")
    await olga.request_abort(change_id, "second")
    assert await alice.abort_requested(change_id) == "j_bob: release is coming"
    await walk(alice, claim, State.QUEUED)
    await refused(alice.claim(change_id, **claim_terms()), "aborted")


async def test_what_needs_an_operator_is_settled_by_a_second_person(room: Room) -> None:
    alice, both, bob = [await room.journal(user) for user in ("j_alice", "j_both", "j_bob")]
    change_id = await room.approved(both, bob)
    claim = await both.claim(change_id, **claim_terms())
    await walk(both, claim, State.RUNNING, State.UNKNOWN, State.NEEDS_OPERATOR)
    await refused(both.resolve(change_id, State.CLEANING, "drop it"), "self_approval")
    with pytest.raises(PrivilegeError):
        await alice.resolve(change_id, State.CLEANING, "drop it")
    await refused(bob.resolve(change_id, State.RUNNING, "go on"), "state")
    await bob.resolve(change_id, State.CLEANING, "it is ours")
    assert await alice.orphans() == [change_id]
    assert await alice.takeover(change_id, 30) == 3


async def test_a_decision_puts_a_half_dropped_index_back_into_the_queue(room: Room) -> None:
    alice, olga, bob, zoe = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob", "j_zoe")]
    change_id = await room.approved(alice, bob, make_plan(kind="drop", index_oid=4711))
    claim = await alice.claim(change_id, **claim_terms(rate_max=1))
    await walk(alice, claim, State.RUNNING, State.UNKNOWN, State.NEEDS_OPERATOR)
    await refused(zoe.resolve(change_id, State.QUEUED, "go on"), "decision")
    await refused(zoe.resolve(change_id, "finish", " "), "reason")
    await zoe.resolve(change_id, "repair", "the report needs it")
    run = await alice.run(change_id)
    assert (run.state, run.decision, run.lease_ended) == (State.QUEUED, "repair", True)
    with pytest.raises(StaleEpochError):
        await alice.append(change_id, claim.epoch, "phase", {})
    for journal, ended in ((alice, alice.withdraw), (bob, bob.reject)):
        await refused(ended(change_id, "away with it"), "state")
        assert (await journal.change(change_id)).state is State.QUEUED
    again = await olga.claim(change_id, **claim_terms(rate_max=1))  # another operator, without another slot
    assert again.slot is None
    approvals = (await alice.change(change_id)).approvals
    assert {a.approver for a in approvals} == {"j_bob", "j_zoe"}
    assert (await alice.rate_status(1, 3600)).used == 1


async def test_only_a_drop_is_repaired(room: Room) -> None:
    alice, bob = [await room.journal(user) for user in ("j_alice", "j_bob")]
    change_id = await room.approved(alice, bob)
    claim = await alice.claim(change_id, **claim_terms())
    await walk(alice, claim, State.RUNNING, State.UNKNOWN, State.NEEDS_OPERATOR)
    await refused(bob.resolve(change_id, "repair", "have it back"), "decision")
    await bob.resolve(change_id, "finish", "build the rest")
    assert (await alice.run(change_id)).decision == "finish"


async def test_steps_of_a_partitioned_change_are_kept_and_hold_it_in_the_queue(room: Room) -> None:
    alice, bob = [await room.journal(user) for user in ("j_alice", "j_bob")]
    change_id = await room.approved(alice, bob)
    claim = await alice.claim(change_id, **claim_terms())
    await walk(alice, claim, State.RUNNING)
    await alice.set_part(change_id, claim.epoch, 0, "begun", None)
    await alice.set_part(change_id, claim.epoch, 0, "done", 4711)
    await alice.set_part(change_id, claim.epoch, 1, "begun", None)
    assert await alice.parts(change_id) == {0: Part("done", 4711), 1: Part("begun", None)}
    with pytest.raises(StaleEpochError):
        await alice.set_part(change_id, claim.epoch + 1, 1, "done", 1)
    await alice.advance(change_id, claim.epoch, State.RUNNING, State.QUEUED, "requeued", {})
    await refused(bob.reject(change_id, "no"), "state")  # something of it stands
    for position in (0, 1):
        await alice.set_part(change_id, claim.epoch, position, "cleaned", None)
    await bob.reject(change_id, "no")


async def test_gates_are_logged_when_a_status_changes(room: Room) -> None:
    alice = await room.journal("j_alice")
    change_id = await alice.propose(make_plan(), target="prod", reason="slow")
    later = datetime.now(UTC) + timedelta(hours=3)

    def gates(window: Status, measured: str) -> list[Verdict]:
        return [
            Verdict("tls", Status.PASS, "verify-full", "verify-full", "", "encrypted"),
            Verdict("window", window, measured, "02:00-06:00", "maintenance_window", "closed \x1b[2J", retry_at=later),
        ]

    await alice.record_gates(change_id, gates(Status.WAIT, "01:00"))
    first = (await alice.change(change_id)).verdicts
    await alice.record_gates(change_id, gates(Status.WAIT, "01:30"))
    change = await alice.change(change_id)
    assert [v.guard for v in change.verdicts] == ["tls", "window"]
    assert change.verdicts[1].measured == "01:30"
    assert change.verdicts[1].since == first[1].since
    assert change.verdicts[1].retry_at == later
    assert "\x1b" not in change.verdicts[1].evidence
    assert [e.action for e in change.events] == ["proposed", "gates"]
    await alice.record_gates(change_id, gates(Status.PASS, "02:00")[1:])
    change = await alice.change(change_id)
    assert [(v.guard, v.status) for v in change.verdicts] == [("window", Status.PASS)]
    assert [item["guard"] for item in change.events[-1].detail["changed"]] == ["window"]
