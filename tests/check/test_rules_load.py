"""The rules on what the server does now, and on the control schema."""

from __future__ import annotations

import asyncio

from indexpilot_tui.check.run import check_target
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.check.asking import CRITICAL, OK, UNKNOWN, WARNING, ask
from tests.conftest import socket_target
from tests.engine.journal_room import claim_terms, make_plan, make_room
from tests.engine.observe_room import SETTINGS, Place


def strict(**limits: object) -> Settings:
    return validated(Settings, {"production_safeguards": limits})


async def test_old_transactions(place: Place) -> None:
    settings = strict(throttle={"max_oldest_xact_seconds": 0.3})
    assert (await ask(place, "old_transactions", settings=settings)).status is OK
    holder = await place.connection()
    await holder.execute("begin")
    await asyncio.sleep(0.5)
    found = await ask(place, "old_transactions", settings=settings)
    assert (found.status, str(holder.info.backend_pid) in found.fix) == (WARNING, True)
    assert (await ask(place, "old_transactions", user=await place.role("blind"))).status is UNKNOWN
    await holder.close()


async def test_prepared_transactions(place: Place) -> None:
    settings = strict(blockers={"max_writer_age_seconds": 0})
    assert (await ask(place, "prepared_transactions", settings=settings)).status is OK
    await place.run("create table t (a int)")
    async with place.admin.cursor() as cursor:
        for statement in ("begin", "insert into t values (1)", "prepare transaction 'it''s'"):
            await cursor.execute(statement.encode())
    found = await ask(place, "prepared_transactions", settings=settings)
    assert found.status is WARNING
    assert found.fix.startswith("ROLLBACK PREPARED 'it''s'")
    assert (await ask(place, "prepared_transactions")).status is OK  # younger than the default limit
    await place.run(found.fix)
    assert (await ask(place, "prepared_transactions", settings=settings)).status is OK


async def test_lock_waiters(place: Place) -> None:
    settings = strict(throttle={"max_lock_waiters": 0})
    assert (await ask(place, "lock_waiters", settings=settings)).status is OK
    await place.run("create table t (a int)")
    holder, waiter = await place.connection(), await place.connection()
    await holder.execute("begin")
    await holder.execute("lock table t in access exclusive mode")
    waiting = asyncio.create_task(waiter.execute("select * from t"))
    await asyncio.sleep(0.3)
    assert (await ask(place, "lock_waiters", settings=settings)).status is WARNING
    assert (await ask(place, "lock_waiters")).status is OK  # one, and five are allowed
    await holder.execute("rollback")
    await waiting
    await holder.close()
    await waiter.close()


async def test_connections(place: Place) -> None:
    assert (await ask(place, "connections")).status is OK
    held = [await place.connection() for _ in range(16)]  # of 20, with the admin's and ours 18
    assert (await ask(place, "connections")).status is WARNING
    for conn in held:
        await conn.close()


async def test_stale_statistics(place: Place) -> None:
    await place.run('create table "T t" (a int)', "select pg_stat_force_next_flush()", "select 1")
    assert (await ask(place, "stale_statistics")).status is OK
    await place.run('insert into "T t" select generate_series(1, 5000)', "select pg_stat_force_next_flush()", "select 1")
    found = await ask(place, "stale_statistics")
    assert (found.status, found.fix) == (WARNING, 'ANALYZE "public"."T t"')
    await place.run(found.fix, "select pg_stat_force_next_flush()", "select 1")
    assert (await ask(place, "stale_statistics")).status is OK


async def test_control_schema(place: Place, cluster18: LocalCluster) -> None:
    rules = ("control_schema", "audit_chain", "stuck_changes", "kill_switch")
    bare = await check_target(place.target(), SETTINGS)
    by_id = {rule.id: rule for rule in bare.rules}
    assert by_id["control_schema"].status is WARNING
    assert {s.id for s in bare.skipped} == set(rules[1:])  # left out, and told, but not green
    async with make_room(cluster18) as room:
        target = socket_target(cluster18, room.dbname, "j_mona")
        seen = {rule.id: rule.status for rule in (await check_target(target, SETTINGS)).rules}
        assert [seen[rule] for rule in rules] == [OK] * 4
        stranger = socket_target(cluster18, room.dbname, "j_eve")
        refused = {rule.id: rule.status for rule in (await check_target(stranger, SETTINGS)).rules}
        assert [refused[rule] for rule in rules] == [UNKNOWN] * 4


async def test_audit_chain(cluster18: LocalCluster, place: Place) -> None:
    async with make_room(cluster18) as room:
        alice = await room.journal("j_alice")
        for _ in range(3):
            await alice.propose(make_plan(), target="prod", reason="slow")
        assert (await ask(place, "audit_chain", journal=alice)).status is OK
        with room.admin() as conn:
            conn.execute("alter table indexpilot.mutation_log disable trigger append_only")
            conn.execute("update indexpilot.mutation_log set actor = 'nobody' where seq = 2")
        found = await ask(place, "audit_chain", journal=alice)
    assert found.status is CRITICAL
    assert found.evidence[0]["first_bad_seq"] == 2


async def test_stuck_changes(cluster18: LocalCluster, place: Place) -> None:
    async with make_room(cluster18) as room:
        alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
        assert (await ask(place, "stuck_changes", journal=alice)).status is OK
        change_id = await room.approved(alice, bob)
        claim = await alice.claim(change_id, **claim_terms(lease_s=30))
        assert (await ask(place, "stuck_changes", journal=alice)).status is OK  # it runs, with a lease
        assert await alice.renew(change_id, claim.epoch, 0.05)
        await asyncio.sleep(0.2)
        found = await ask(place, "stuck_changes", journal=alice)
    assert found.status is CRITICAL
    assert found.evidence[0]["change"] == change_id
    assert f"indexpilot changes show {change_id}" in found.fix


async def test_kill_switch(cluster18: LocalCluster, place: Place) -> None:
    async with make_room(cluster18) as room:
        bob = await room.journal("j_bob")
        assert (await ask(place, "kill_switch", journal=bob)).status is OK
        await bob.stop_starts("incident 4711")
        found = await ask(place, "kill_switch", journal=bob)
        assert (found.status, "incident 4711" in found.summary) == (WARNING, True)
        await bob.allow_starts("over")
        assert (await ask(place, "kill_switch", journal=bob)).status is OK
