"""Claims: one winner, one change at a time, rate slots, and everything that a claim refuses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from indexpilot_tui.engine.journal.journal import JournalRefusedError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import PrivilegeError, ServerError, UsageError
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]


# -- claiming -------------------------------------------------------------------------------------------------------------


async def test_claim_refuses_what_nobody_approved_and_other_servers(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    await refused(alice.claim(await alice.propose(make_plan(), target="p", reason="r"), **claim_terms()), "not_approved")
    change_id = await room.approved(alice, bob)
    await refused(alice.claim(change_id, **claim_terms(system_identifier="1")), "other_server")
    with pytest.raises(UsageError, match="no change 999"):
        await alice.claim(999, **claim_terms())
    claim = await alice.claim(change_id, **claim_terms())
    assert (claim.epoch, claim.slot, claim.plan) == (1, 1, make_plan())
    await refused(alice.claim(change_id, **claim_terms()), "state")
    other = await room.approved(alice, bob)
    assert f"change {change_id} is starting" in str(await refused(alice.claim(other, **claim_terms()), "busy"))


async def test_claim_refuses_when_the_approver_lost_the_right(room: Room) -> None:
    alice, zoe = await room.journal("j_alice"), await room.journal("j_zoe")
    change_id = await room.approved(alice, zoe)
    with room.admin() as conn:
        conn.execute("revoke indexpilot_approver from j_zoe")
        try:
            assert "j_zoe" in str(await refused(alice.claim(change_id, **claim_terms()), "approver_revoked"))
        finally:
            conn.execute("grant indexpilot_approver to j_zoe")
    await alice.claim(change_id, **claim_terms())


async def test_one_change_has_one_winner_among_twenty(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    consoles = [await room.journal("j_alice") for _ in range(20)]
    results = await asyncio.gather(*(j.claim(change_id, **claim_terms()) for j in consoles), return_exceptions=True)
    winners = [r for r in results if not isinstance(r, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(r, JournalRefusedError) and r.code == "state" for r in results if r not in winners)
    assert (await alice.rate_status(5, 3600)).used == 1


async def test_twenty_claims_with_five_slots_have_five_winners(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    clusters = [str(n) for n in range(1, 21)]  # one active change in a cluster is another rule: here each has its own
    ids = [await room.approved(alice, bob, make_plan(system_identifier=name)) for name in clusters]
    consoles = [await room.journal("j_alice") for _ in ids]
    results = await asyncio.gather(
        *(j.claim(i, **claim_terms(system_identifier=name)) for j, i, name in zip(consoles, ids, clusters, strict=True)),
        return_exceptions=True,
    )
    winners = [r for r in results if not isinstance(r, BaseException)]
    losers = [r for r in results if isinstance(r, JournalRefusedError)]
    assert len(winners) == 5
    assert {r.code for r in losers} == {"rate_limit"}
    assert len(losers) == 15
    assert sorted(w.slot or 0 for w in winners) == [1, 2, 3, 4, 5]
    status = await alice.rate_status(5, 3600)
    assert status.used == 5
    assert status.free_at == losers[0].retry_at
    assert status.free_at is not None
    assert timedelta(minutes=59) < status.free_at - datetime.now(UTC) <= timedelta(hours=1)
    report = await alice.verify_chain()
    assert report.ok, report


async def test_rate_slots_leave_the_window_and_the_ceiling_of_the_administrator_holds(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set max_starts = 1, per_seconds = 3600")
    claim = await alice.claim(await room.approved(alice, bob), **claim_terms())
    await walk(alice, claim, State.FAILED)
    second = await room.approved(alice, bob)
    await refused(alice.claim(second, **claim_terms(rate_max=1_000_000)), "rate_limit")
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set max_starts = null, per_seconds = null")
    await refused(alice.claim(second, **claim_terms(rate_max=1)), "rate_limit")
    with room.admin() as conn:
        conn.execute("update indexpilot.rate_slots set at = at - interval '1 hour'")
    assert (await alice.rate_status(1, 3600)).free_at is None
    assert (await alice.claim(second, **claim_terms(rate_max=1))).slot == 1


async def test_a_change_that_was_queued_again_keeps_its_slot(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    first = await alice.claim(change_id, **claim_terms(rate_max=1))
    await walk(alice, first, State.RUNNING, State.CANCELLING, State.CLEANING, State.QUEUED)
    second = await alice.claim(change_id, **claim_terms(rate_max=1))
    assert (second.epoch, second.slot) == (2, 1)
    assert (await alice.run(change_id)).attempts == 2


async def test_the_kill_switch_stops_claims_and_only_an_approver_releases_it(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    await alice.stop_starts("incident 12")
    assert await alice.kill_switch() == "j_alice: incident 12"
    assert "incident 12" in str(await refused(alice.claim(change_id, **claim_terms()), "kill_switch"))
    with pytest.raises(PrivilegeError):
        await alice.allow_starts("over")
    await bob.allow_starts("over")
    assert await alice.kill_switch() is None
    await alice.claim(change_id, **claim_terms())


async def test_other_isolation_levels_are_refused(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    await alice.session.execute("set default_transaction_isolation = 'repeatable read'")
    with pytest.raises(ServerError, match="READ COMMITTED"):
        await alice.claim(change_id, **claim_terms())
