"""The recipe of `setup-sql`, carried out as it is printed, on 15 and 18: what each role can, and where each is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.errors import ServerError
from tests.engine.journal_room import Room, claim_terms, make_plan

pytest_plugins = ["tests.engine.journal_fixtures"]

# who may call what; whatever is not here may be called by nobody
MONITOR = {
    "valid_until", "rate_status", "_tenant", "_sees_all", "_in_force", "_alone", "_strict", "column_statistics", "_distinct",
    "_member",
}  # fmt: skip
BOTH = {"expire", "request_abort", "stop_starts", "bypass_on", "bypass_off", "anchor_failed"}
OPERATOR = BOTH | {
    "propose", "withdraw", "claim", "renew", "takeover", "append", "advance", "set_backend", "set_index", "set_part", "keep_way_back",
    "record_gates", "save_verification", "save_stats", "record_query_stats", "record_index_health", "prune", "check_writable",
}  # fmt: skip
APPROVER = BOTH | {"approve", "reject", "allow_starts", "resolve", "review_bypass"}
ROLES = {
    "j_mona": MONITOR, "j_alice": MONITOR | OPERATOR, "j_bob": MONITOR | APPROVER, "j_both": MONITOR | OPERATOR | APPROVER,
    "j_eve": set[str](), "public": set[str](), "indexpilot_statistics": {"column_statistics"},
}  # fmt: skip


async def test_each_function_is_granted_to_whom_it_must_be_and_to_nobody_else(room: Room) -> None:
    with room.admin() as conn:
        functions = conn.execute(
            "select p.proname, p.oid, prosecdef, proconfig from pg_proc p where pronamespace = 'indexpilot'::regnamespace"
        ).fetchall()
        for role, granted in ROLES.items():
            may = {name for name, oid, *_ in functions if conn.execute(
                "select has_function_privilege(%s, %s, 'EXECUTE')", (role, oid)).fetchone() == (True,)}  # fmt: skip
            assert may == granted, role
    for name, _, definer, config in functions:
        assert any(part.startswith("search_path=pg_catalog, pg_temp") for part in config or []), f"{name}: no pinned path"
        assert definer or name.startswith("_") or name == "valid_until", name


async def test_nobody_but_the_owner_has_more_than_select(room: Room) -> None:
    with room.admin() as conn:
        granted = conn.execute(
            "select distinct grantee::regrole::text, privilege_type from pg_class c, aclexplode(c.relacl) a"
            " where relnamespace = 'indexpilot'::regnamespace and grantee <> 'indexpilot_owner'::regrole"
        ).fetchall()
        schema = conn.execute(
            "select grantee::regrole::text, privilege_type from pg_namespace n, aclexplode(n.nspacl) a"
            " where nspname = 'indexpilot' and grantee <> 'indexpilot_owner'::regrole"
        ).fetchall()
        groups = conn.execute(
            "select rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles"
            " where rolname ~ '^indexpilot_'"
        ).fetchall()
        members = conn.execute(
            "select roleid::regrole::text, member::regrole::text from pg_auth_members"
            " where roleid in ('indexpilot_owner'::regrole, 'indexpilot_statistics'::regrole)"
        ).fetchall()
    reader = [("indexpilot_statistics", "SELECT")]  # of the list of enrolled tables
    assert sorted(granted) == [("indexpilot_monitor", "SELECT"), *reader]
    assert sorted(schema) == [("indexpilot_monitor", "USAGE"), ("indexpilot_statistics", "USAGE")]
    assert len(groups) >= 5
    # who is told of tables with policies is decided by the reader itself
    assert [name for name, *rights in groups if any(rights)] == ["indexpilot_statistics"]
    assert [rights for name, *rights in groups if any(rights)] == [[False, False, False, False, False, True]]
    assert members == []


@pytest.fixture
def shop(room: Room) -> Iterator[Room]:
    """A table of shop_owner, and the recipe for the operator as setup-sql prints it for this version."""
    recipe = [
        re.sub(r"\balice\b", "j_alice", found[1])
        for line in setup_sql().splitlines()
        if (found := re.match(r"--\s+PostgreSQL (?:13 to 15|16 on):\s+(GRANT .*;)$", line))
    ]
    assert len(recipe) == 2, "the recipe is not where it was"
    with room.admin() as conn:
        conn.execute("create role shop_owner nologin; create schema shop authorization shop_owner; set role shop_owner;"
                     " create table shop.orders (id int primary key, customer_id int);"
                     " insert into shop.orders select i, i % 7 from generate_series(1, 1000) i; reset role; analyze")  # fmt: skip
        conn.execute(recipe[room.cluster.version >= 160000].encode())
    yield room
    with room.admin() as conn:
        conn.execute("drop schema shop cascade; drop role shop_owner")


class Login:
    """One session of one person."""

    def __init__(self, room: Room, user: str) -> None:
        self.conn = psycopg.connect(room.cluster.conninfo(room.dbname, user), autocommit=True)

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *_: object) -> None:
        self.conn.close()

    def can(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self.conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def cannot(self, *statements: str) -> None:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                self.conn.execute(statement.encode())


NOBODYS = (
    "set role indexpilot_owner", "set role indexpilot_statistics", "set session authorization j_both",
    "create table indexpilot.mine (a int)", "create function indexpilot.propose() returns int language sql as 'select 1'",
    "select pg_read_file('/etc/passwd')", "copy (select 1) to program 'true'", "alter system set work_mem = '1GB'",
    "create role somebody", "grant indexpilot_approver to j_eve", "update indexpilot.policy set self_approval = 'all'",
    "alter table indexpilot.mutation_log disable trigger all", "drop trigger append_only on indexpilot.mutation_log",
)  # fmt: skip
INDEX = "create index concurrently orders_customer_idx on shop.orders (customer_id)"


async def test_the_owners_right_is_only_taken_by_set_role(shop: Room) -> None:
    """What an executor needs, by the printed recipe, and nothing of it without SET ROLE where the server can tell the two
    apart (16 on)."""
    with Login(shop, "j_alice") as alice:
        alice.cannot(*NOBODYS)
        if shop.cluster.version >= 160000:
            alice.cannot(INDEX, "select * from shop.orders", "drop table shop.orders", "alter table shop.orders add b int")
        alice.can("set role shop_owner")
        alice.can(INDEX)
        alice.can("reindex index concurrently shop.orders_customer_idx")
        alice.can("drop index concurrently shop.orders_customer_idx")
        alice.cannot("select * from indexpilot.changes", "select indexpilot.stop_starts('x')")  # the log has its own session
        alice.can("reset role")
        assert alice.can("select count(*) from indexpilot.changes") == [(0,)]
        alice.can(
            "select pg_cancel_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename = 'j_alice'"
        )


async def test_monitor_and_approver_touch_no_table_and_no_session(shop: Room) -> None:
    with shop.admin() as conn, shop.admin() as grantor:
        conn.execute("set application_name = 'somebody'; select 'something' as what")
        for user in ("j_mona", "j_bob"):
            with Login(shop, user) as person:
                asked = "select \"column\", n_distinct from indexpilot.column_statistics('{shop}', '{orders}')"
                assert person.can(asked) == []  # no right on the table
                person.cannot(
                    *NOBODYS, "set role shop_owner", INDEX, "select * from shop.orders", "drop table shop.orders",
                    "reindex table shop.orders",
                    f"select pg_cancel_backend({conn.info.backend_pid})", f"select pg_terminate_backend({conn.info.backend_pid})",
                )  # fmt: skip
                activity = person.can(f"select query from pg_stat_activity where pid = {conn.info.backend_pid}")
                assert "something" in str(activity)  # pg_monitor
                grantor.execute("select indexpilot.enrol_statistics('shop', 'orders')")
                assert person.can(asked) == []
                grantor.execute(f"grant usage on schema shop to {user}; grant references on shop.orders to {user}")
                assert ("customer_id", 7.0) in person.can(asked)  # and not a row
                person.cannot("select * from shop.orders")
                grantor.execute(f"revoke all on schema shop from {user}; revoke all on shop.orders from {user}")


async def test_who_has_no_role_sees_nothing(shop: Room) -> None:
    with Login(shop, "j_eve") as eve:
        eve.cannot(*NOBODYS, "select * from indexpilot.changes", "select indexpilot.stop_starts('x')", INDEX,
                   "select * from indexpilot.column_statistics('{shop}', '{orders}')")  # fmt: skip


async def test_a_right_that_is_revoked_is_gone_in_open_sessions(shop: Room) -> None:
    alice = await shop.journal("j_alice")
    await alice.propose(make_plan(), target="prod", reason="slow")
    with Login(shop, "j_alice") as session, shop.admin() as conn:
        session.can("set role shop_owner")
        session.can("reset role")
        conn.execute("revoke shop_owner from j_alice")
        session.cannot("set role shop_owner", INDEX)
        conn.execute("revoke indexpilot_operator from j_alice")
        try:
            session.cannot("select indexpilot.stop_starts('x')", "select * from indexpilot.changes")
        finally:
            conn.execute("grant indexpilot_operator to j_alice")


async def test_nobody_takes_the_recording_of_the_future(shop: Room) -> None:
    """One operator could else keep all consoles from recording what they see."""
    with Login(shop, "j_alice") as alice, Login(shop, "j_olga") as olga:
        call = "select indexpilot.{}('1', 'shop', {}, '[]')"
        for name in ("record_query_stats", "record_index_health"):
            for window in ("now(), 'infinity'", "now(), now() + interval '25 hours'", "now(), now()", "'infinity', now()",
                           "null, now()", "now(), null"):  # fmt: skip
                with pytest.raises(psycopg.Error) as caught:
                    alice.can(call.format(name, window))
                assert caught.value.sqlstate == "IX004", window
            assert olga.can(call.format(name, "now() - interval '1 min', now()")) == [(0,)]  # no rows, and no refusal
        assert olga.can("select count(*) from indexpilot.recordings where until <= now()") == [(2,)]


async def test_nobody_holds_a_change_for_good(room: Room) -> None:
    """A lease that does not end would keep everybody else from taking the change over."""
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    endless = (3601.0, float("inf"), float("nan"), -1.0)
    for seconds in endless:
        with pytest.raises(ServerError, match="a lease lasts at most 3600 seconds"):
            await alice.claim(change_id, **claim_terms(lease_s=seconds))
    claim = await alice.claim(change_id, **claim_terms(lease_s=0.0))
    for seconds in endless:
        with pytest.raises(ServerError, match="a lease lasts at most 3600 seconds"):
            await alice.renew(change_id, claim.epoch, seconds)
        with pytest.raises(ServerError, match="a lease lasts at most 3600 seconds"):
            await alice.takeover(change_id, seconds)
    assert await alice.takeover(change_id, 3600.0) == claim.epoch + 1
