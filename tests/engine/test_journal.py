"""The control schema on real servers: what the set-up makes, who may do what, and what an approval is worth."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import NotInstalledError, PrivilegeError
from tests.engine.journal_room import Room, claim_terms, make_plan, refused

pytest_plugins = ["tests.engine.journal_fixtures"]


# -- setting up -----------------------------------------------------------------------------------------------------------


async def test_setup_runs_twice_and_keeps_what_is_there(room: Room) -> None:
    alice = await room.journal("j_alice")
    change_id = await alice.propose(make_plan(), target="prod", reason="slow")
    with room.admin() as conn:
        conn.execute(setup_sql().encode())
        owners = conn.execute(
            "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'indexpilot'::regnamespace"
        ).fetchall()
    assert owners == [("indexpilot_owner",)]
    assert (await alice.change(change_id)).state is State.PROPOSED
    assert (await alice.verify_chain()).ok


async def test_setup_by_a_role_that_is_no_superuser(room: Room) -> None:
    with room.admin() as conn:
        conn.execute("create role j_admin login createrole")
        conn.execute(f"grant create on database {room.dbname} to j_admin".encode())
        conn.execute("drop schema indexpilot cascade")
        for name in ("owner", "monitor", "operator", "approver"):
            option = "with admin option" if name != "owner" or room.cluster.version >= 160000 else ""
            conn.execute(f"grant indexpilot_{name} to j_admin {option}".encode())
    try:
        with psycopg.connect(room.cluster.conninfo(room.dbname, "j_admin"), autocommit=True) as conn:
            conn.execute(setup_sql().encode())
            conn.execute(setup_sql().encode())
        alice = await room.journal("j_alice")
        assert await alice.propose(make_plan(), target="prod", reason="slow") == 1
        with psycopg.connect(room.cluster.conninfo(room.dbname, "j_admin"), autocommit=True) as conn:
            conn.execute(setup_sql(multi_tenant=True).encode())
        assert await alice.changes() == []  # she acts for no tenant
    finally:
        with room.admin() as conn:
            conn.execute("drop owned by j_admin cascade")
            conn.execute(f"revoke all on database {room.dbname} from j_admin".encode())
            for name in ("owner", "monitor", "operator", "approver"):
                conn.execute(f"revoke indexpilot_{name} from j_admin".encode())
            conn.execute("drop role j_admin")


async def test_open_says_what_is_missing(room: Room) -> None:
    with pytest.raises(NotInstalledError, match="no right to read") as caught:
        await room.journal("j_eve")
    assert "GRANT indexpilot_operator TO j_eve" in str(caught.value)
    with room.admin() as conn:
        conn.execute("update indexpilot.schema_version set version = 99")
    with pytest.raises(NotInstalledError, match="version 99"):
        await room.journal("j_alice")
    with room.admin() as conn:
        conn.execute("drop schema indexpilot cascade")
    with pytest.raises(NotInstalledError, match="no control schema"):
        await room.journal("j_alice")
    with room.admin() as conn:
        conn.execute("create schema indexpilot")
    with pytest.raises(NotInstalledError, match="not trusted"):
        await room.journal("j_alice")
    with room.admin() as conn, pytest.raises(psycopg.errors.RaiseException, match="does not belong to indexpilot_owner"):
        conn.execute(setup_sql().encode())


async def test_nobody_writes_the_tables_directly(room: Room) -> None:
    await (await room.journal("j_alice")).propose(make_plan(), target="prod", reason="slow")
    for user in ("j_alice", "j_bob", "j_both", "j_mona"):
        with psycopg.connect(room.cluster.conninfo(room.dbname, user), autocommit=True) as conn:
            for statement in (
                "update indexpilot.changes set state = 'approved'",
                "insert into indexpilot.approvals values (1, 'j_bob', now(), '', now())",
                "delete from indexpilot.mutation_log",
                "update indexpilot.policy set max_starts = 1000, per_seconds = 1",
                "update indexpilot.chain_head set seq = 0",
                "select indexpilot._log(1, 0, 'approved', '{}')",
                "select indexpilot._move(c, 'approved', 'approve') from indexpilot.changes c",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(statement.encode())


async def test_rights_by_group(room: Room) -> None:
    alice, bob, mona = [await room.journal(user) for user in ("j_alice", "j_bob", "j_mona")]
    assert (alice.may_operate, alice.may_approve) == (True, False)
    assert (bob.may_operate, bob.may_approve) == (False, True)
    assert (mona.may_operate, mona.may_approve) == (False, False)
    plan = make_plan()
    change_id = await alice.propose(plan, target="prod", reason="slow")
    with pytest.raises(PrivilegeError) as caught:
        await alice.approve(change_id, plan.sha256, timedelta(hours=1))
    assert "GRANT indexpilot_approver TO j_alice" in str(caught.value)
    with pytest.raises(PrivilegeError) as caught:
        await bob.claim(change_id, **claim_terms())
    assert "GRANT indexpilot_operator TO j_bob" in str(caught.value)
    with pytest.raises(PrivilegeError):
        await mona.propose(plan, target="prod", reason="slow")
    assert (await mona.change(change_id)).plan == plan
    assert (await mona.rate_status(5, 3600)).used == 0
    assert (await mona.verify_chain()).ok


# -- deciding -------------------------------------------------------------------------------------------------------------


async def test_the_stored_plan_is_the_text_that_was_hashed(room: Room) -> None:
    alice = await room.journal("j_alice")
    plan = make_plan('we"ird\n\x1b[2J name')
    change = await alice.change(await alice.propose(plan, target="prod", reason="slow"))
    assert change.plan == plan
    assert change.plan_sha256 == plan.sha256 == change.plan.sha256


async def test_one_does_not_approve_ones_own_proposal(room: Room) -> None:
    both = await room.journal("j_both")
    plan = make_plan()
    change_id = await both.propose(plan, target="prod", reason="slow")
    await refused(both.approve(change_id, plan.sha256, timedelta(hours=1)), "self_approval")
    await both.session.execute("set role indexpilot_approver")  # session_user stays
    await refused(both.approve(change_id, plan.sha256, timedelta(hours=1)), "self_approval")


async def test_approval_binds_the_plan_and_has_an_end(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    plan = make_plan()
    change_id = await alice.propose(plan, target="prod", reason="slow")
    await refused(bob.approve(change_id, make_plan("other").sha256, timedelta(hours=1)), "plan_changed")
    await refused(bob.approve(change_id, plan.sha256, timedelta(hours=169)), "expiry")
    await refused(bob.approve(change_id, plan.sha256, timedelta(0)), "expiry")
    await bob.approve(change_id, plan.sha256, timedelta(hours=2))
    await refused(bob.approve(change_id, plan.sha256, timedelta(hours=2)), "state")
    change = await alice.change(change_id)
    assert change.state is State.APPROVED
    assert [a.approver for a in change.approvals] == ["j_bob"]
    assert change.approvals[0].expires_at - change.approvals[0].at == timedelta(hours=2)


async def test_a_plan_that_was_edited_after_its_approval_is_refused(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    edit = "update indexpilot.changes set plan = replace(plan, 'customer_id', 'secret') where id = %s"
    only_text, also_hash = await room.approved(alice, bob), await room.approved(alice, bob)
    with room.admin() as conn:
        conn.execute(edit.encode(), (only_text,))
        conn.execute(edit.encode(), (also_hash,))
        conn.execute("update indexpilot.changes set plan_sha256 = indexpilot._sha256(plan) where id = %s", (also_hash,))
    assert "changed" in str(await refused(alice.claim(only_text, **claim_terms()), "plan_changed"))
    assert "changed after it was approved" in str(await refused(alice.claim(also_hash, **claim_terms()), "plan_changed"))
    assert (await alice.rate_status(5, 3600)).used == 0


async def test_reject_and_withdraw(room: Room) -> None:
    alice, olga, bob = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob")]
    first, second = await room.approved(alice, bob), await room.approved(alice, bob)
    await bob.reject(first, "not now")
    await refused(olga.withdraw(second, "mine"), "not_requester")
    await alice.withdraw(second, "not needed")
    assert [c.state for c in await alice.changes(2)] == [State.WITHDRAWN, State.REJECTED]
    for change_id in (first, second):
        await refused(alice.claim(change_id, **claim_terms()), "state")
    await refused(alice.propose(make_plan(), target="prod", reason="  "), "reason")


async def test_expiry_reads_as_expired_at_once_and_is_written_at_the_claim(room: Room) -> None:
    alice, bob, mona = [await room.journal(user) for user in ("j_alice", "j_bob", "j_mona")]
    change_id = await room.approved(alice, bob, hours=0.0002)
    proposed = await alice.propose(make_plan(), target="prod", reason="slow")
    with room.admin() as conn:
        conn.execute("update indexpilot.changes set requested_at = now() - interval '8 days' where id = %s", (proposed,))
    await asyncio.sleep(0.8)
    assert {(await mona.change(i)).state for i in (change_id, proposed)} == {State.EXPIRED}
    assert len(await mona.changes(10, [State.EXPIRED])) == 2
    error = await refused(alice.claim(change_id, **claim_terms()), "approval_expired")
    assert "expired at" in str(error)
    with room.admin() as conn:
        stored = conn.execute("select distinct state from indexpilot.changes").fetchall()
    assert stored == [("expired",)]
    assert (await alice.change(change_id)).events[-1].action == "expired"
