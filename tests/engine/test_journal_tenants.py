"""Row-level security as `setup-sql --multi-tenant` prints it: what a tenant sees, does, and cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.errors import PrivilegeError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Control, Settings
from tests.conftest import socket_target
from tests.engine.journal_room import Room, claim_terms, make_plan, make_room, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]

TABLES = ("changes", "mutation_log", "query_stats", "index_health", "tenants", "recordings", "approvals", "rate_slots",
          "change_parts", "gate_verdicts", "change_stats")  # fmt: skip
LISTED = {"j_alice": 7, "j_bob": 7, "j_olga": 8, "j_zoe": 8, "j_mona": 8}


@pytest.fixture
async def site(journal_server: LocalCluster) -> AsyncIterator[Room]:
    """Two tenants: alice and bob are of 7, olga, zoe and mona of 8; both looks after all."""
    async with make_room(journal_server) as room:
        with room.admin() as conn:
            conn.execute(setup_sql(multi_tenant=True).encode())
            conn.execute(setup_sql(multi_tenant=True).encode())  # harmless
            conn.execute("grant indexpilot_all_tenants to j_both")
            for login, tenant in LISTED.items():
                conn.execute("insert into indexpilot.tenants values (%s, %s)", (login, tenant))
        yield room
        with room.admin() as conn:
            conn.execute("revoke indexpilot_all_tenants from j_both")


async def journal(room: Room, user: str, tenant: int | None = None) -> Journal:
    session = await connect(socket_target(room.cluster, room.dbname, user), Purpose.CONTROL, Settings())
    opened = await Journal.open(session, Control(tenant_id=LISTED.get(user) if tenant is None else tenant))
    room.opened.append(opened)
    return opened


async def everything(room: Room) -> dict[str, Journal]:
    """A change, a log and figures of each tenant."""
    by = {user: await journal(room, user) for user in (*LISTED, "j_both")}
    for requester, approver in (("j_alice", "j_bob"), ("j_olga", "j_zoe")):
        change_id = await room.approved(by[requester], by[approver])
        await by[requester].save_stats(change_id, 0, "proposed", (await now(by[requester])), None, [])
        claim = await by[requester].claim(change_id, **claim_terms(system_identifier=CLUSTER[requester]))
        await by[requester].set_part(change_id, 1, 0, "begun", 1)
        await by[requester].record_gates(change_id, [Verdict("rate", Status.PASS, "1", "5", "", "free")])
        await walk(by[requester], claim, State.FAILED)
        await record(by[requester], requester)
    return by


CLUSTER = dict.fromkeys(("j_alice", "j_olga"), "7300000000000000001")


async def now(by: Journal) -> Any:
    return await by.session.value("select pg_catalog.clock_timestamp()")


async def record(by: Journal, who: str) -> None:
    until = await now(by)
    row = {"queryid": 1, "user": who, "query": "select $1", "calls": 1, "total_ms": 2.5, "rows": 1, "wal_bytes": 0}
    finding = {"kind": "unused", "severity": "info", "index_oid": 5, "index": f"of.{who}", "table": "t", "size_bytes": 1,
               "scans": 0, "evidence": "x"}  # fmt: skip
    assert await by.record("query_stats", by.session.facts, until - timedelta(minutes=5), until, [row]) == 1
    assert await by.record("index_health", by.session.facts, until - timedelta(hours=1), until, [finding]) == 1


def seen(room: Room, user: str, table: str, tenant: str | None) -> set[Any]:
    """Whose rows a login gets from a table on a plain connection of its own, with what it sets itself."""
    column = {"tenants": "login", "changes": "requested_by", "mutation_log": "actor"}.get(table)
    with psycopg.connect(room.cluster.conninfo(room.dbname, user), autocommit=True) as conn:
        if tenant is not None:
            conn.execute("select set_config('app.tenant_id', %s, false)", (tenant,))
        chosen = sql.Identifier(column) if column else sql.SQL("count(*)")
        return {
            row[0] for row in conn.execute(sql.SQL("select {} from indexpilot.{}").format(chosen, sql.Identifier(table)))
        }


async def test_tenants_do_not_see_each_others_rows(site: Room) -> None:
    await everything(site)
    whole = {table: seen(site, "j_both", table, None) for table in TABLES}
    assert whole["changes"] == {"j_alice", "j_olga"}
    assert all(whole[table] != {0} for table in TABLES)
    for user, own, others in (("j_alice", "7", "8"), ("j_bob", "7", "8"), ("j_olga", "8", "7"), ("j_mona", "8", "7")):
        mine = {"j_alice", "j_bob"} if own == "7" else {"j_olga", "j_zoe"}
        assert seen(site, user, "changes", own) == {"j_alice" if own == "7" else "j_olga"}
        assert seen(site, user, "mutation_log", own) == mine
        for table in (
            "query_stats",
            "index_health",
            "approvals",
            "rate_slots",
            "change_parts",
            "gate_verdicts",
            "change_stats",
        ):
            assert seen(site, user, table, own) == {1}, table
        for table in TABLES:
            hidden = {user} if table == "tenants" else set() if table in ("changes", "mutation_log") else {0}
            for setting in (others, None, "", "999"):  # another tenant's, none, an empty one, one that does not exist
                assert seen(site, user, table, setting) == hidden, (user, table, setting)
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            seen(site, user, "changes", "7; drop")


async def test_nobody_gets_round_it(site: Room) -> None:
    await everything(site)
    with site.admin() as conn:
        conn.execute(setup_sql().encode())  # without --multi-tenant: what is in force stays
        assert conn.execute("select multi_tenant from indexpilot.policy").fetchone() == (True,)
        held = conn.execute(
            "select count(*) from pg_class where relnamespace = 'indexpilot'::regnamespace and relname = any(%s)"
            " and relrowsecurity and relforcerowsecurity",
            (list(TABLES),),
        ).fetchone()
        with_tenant = conn.execute(
            "select table_name from information_schema.columns where table_schema = 'indexpilot' and column_name in"
            " ('tenant_id', 'change_id')"
        ).fetchall()
    assert held == (len(TABLES),)
    assert {row[0] for row in with_tenant} <= set(TABLES), "a table with rows of tenants has no policy"
    with psycopg.connect(site.cluster.conninfo(site.dbname, "j_alice"), autocommit=True) as conn:
        for statement in (
            "insert into indexpilot.tenants values ('j_alice', 8)",
            "set row_security = off; select count(*) from indexpilot.changes",
            "set role indexpilot_owner",
            "set role indexpilot_all_tenants",
            "set session authorization j_olga",
            "alter table indexpilot.changes disable row level security",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement.encode())
        conn.execute("set row_security = on; set app.tenant_id = '7'")
        row = conn.execute(
            "select count(*) from indexpilot.changes where target = 'prod' or indexpilot.valid_until(changes) is not null"
        ).fetchone()
        assert row == (1,)


async def test_what_a_function_does_for_one_tenant_it_does_not_for_another(site: Room) -> None:
    alice, bob, olga, zoe, both = [await journal(site, user) for user in ("j_alice", "j_bob", "j_olga", "j_zoe", "j_both")]
    change_id = await site.approved(alice, bob)
    plan_hash = make_plan().sha256
    for deed in (
        zoe.approve(change_id, plan_hash, timedelta(hours=1)), zoe.reject(change_id, "x"), olga.request_abort(change_id, "x"),
        olga.claim(change_id, **claim_terms()), olga.append(change_id, 0, "phase", {}), zoe.resolve(change_id, State.FAILED, "x"),
        olga.advance(change_id, 0, State.APPROVED, State.QUEUED, "phase", {}), olga.change(change_id),
        olga.save_stats(change_id, 0, "start", await now(olga), None, []), olga.record_gates(change_id, []),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="there is no change"):
            await deed
    claim = await alice.claim(change_id, **claim_terms())
    assert await olga.renew(change_id, claim.epoch, 600) is False
    assert (await alice.change(change_id)).state is State.STARTING
    second = await site.approved(olga, zoe)
    error = await refused(olga.claim(second, **claim_terms()), "busy")
    assert "another tenant" in str(error)
    assert str(change_id) not in str(error)
    assert (await olga.rate_status(5, 3600)).used == 1  # slots are the cluster's, and counted for all
    assert [c.id for c in await olga.changes(10)] == [second]
    assert {c.id for c in await both.changes(10)} == {change_id, second}
    await both.approve(await olga.propose(make_plan(), target="prod", reason="slow"), plan_hash, timedelta(hours=1))


async def test_a_rollback_is_of_its_parents_tenant(site: Room) -> None:
    alice, bob, both = [await journal(site, user) for user in ("j_alice", "j_bob", "j_both")]
    change_id = await site.approved(alice, bob)
    claim = await alice.claim(change_id, **claim_terms())
    await alice.set_index(change_id, 1, 77, True)
    await walk(alice, claim, State.RUNNING, State.VERIFYING, State.OBSERVING)
    drop = make_plan(kind="drop", index_oid=77)
    back = await both.propose(drop, target="prod", reason="slower", parent_id=change_id, rollback=True)
    assert (await alice.change(back)).parent_id == change_id


async def test_what_concerns_all_is_not_for_one(site: Room) -> None:
    alice, bob, both, nobody = [await journal(site, user) for user in ("j_alice", "j_bob", "j_both", "j_both")]
    await refused(alice.bypass_on(["rate"], "incident", 60), "tenant")
    number = await both.bypass_on(["rate"], "incident", 60)
    assert (await alice.bypass()) is not None  # and everybody sees it
    await refused(bob.review_bypass(number, "fine"), "tenant")
    await refused(alice.prune("mutation_log", 400), "tenant")
    await alice.stop_starts("hands off")  # the safe side is open to all
    await refused(bob.allow_starts("go on"), "tenant")
    await both.allow_starts("go on")
    unlisted = await journal(site, "j_alice", 8)
    await refused(unlisted.propose(make_plan(), target="prod", reason="slow"), "tenant")
    with pytest.raises(PrivilegeError, match="a chain is verified whole"):
        await alice.verify_chain()
    assert (await nobody.verify_chain()).ok


async def test_the_tenant_stands_in_the_hash(site: Room) -> None:
    by = await everything(site)
    with site.admin() as conn:
        conn.execute("alter table indexpilot.mutation_log disable trigger append_only")
        conn.execute("update indexpilot.mutation_log set tenant_id = 8 where seq = 2")
    report = await by["j_both"].verify_chain()
    assert (report.ok, report.first_bad_seq) == (False, 2)


async def test_without_tenants_everybody_sees_everything(room: Room) -> None:
    alice, mona = await room.journal("j_alice"), await room.journal("j_mona")
    change_id = await alice.propose(make_plan(), target="prod", reason="slow")
    assert (await mona.change(change_id)).id == change_id
    assert (await mona.verify_chain()).ok
    with room.admin() as conn:
        on = conn.execute(
            "select bool_or(relrowsecurity) from pg_class where relnamespace = 'indexpilot'::regnamespace"
        ).fetchone()
    assert on == (False,)
