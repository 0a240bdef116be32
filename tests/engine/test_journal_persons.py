"""A person is a login's OID and its name: a login that was renamed, made again or inherited is not another one, nor the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import State
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]
HOUR = timedelta(hours=1)
GROUPS = "indexpilot_operator, indexpilot_approver"


class People:
    """Logins of a test, made anew and gone with it."""

    def __init__(self, room: Room) -> None:
        self.room, self.names = room, set[str]()

    def do(self, *statements: str) -> None:
        with self.room.admin() as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def make(self, name: str, groups: str = GROUPS) -> None:
        self.do(f"create role {name} login", f"grant {groups} to {name}")
        self.names.add(name)

    def clear(self) -> None:
        with self.room.admin() as conn:
            for (name,) in conn.execute("select rolname from pg_roles where rolname ~ '^p_'").fetchall():
                conn.execute(f"drop owned by {name} cascade; drop role {name}".encode())


@pytest.fixture
def people(room: Room) -> People:
    made = People(room)
    made.clear()
    return made


@pytest.fixture(autouse=True)
def _gone(people: People) -> object:
    yield
    people.clear()


def _renamed(p: People) -> str:
    p.do("alter role p_ann rename to p_anna")
    return "p_anna"


def _made_again(p: People) -> str:
    p.do("drop role p_ann")
    p.make("p_ann")
    return "p_ann"


def _member_of_her(p: People) -> str:
    p.make("p_mel")
    p.do("grant p_ann to p_mel")
    return "p_mel"


def _her_group(p: People) -> str:
    p.make("p_mel")
    p.do("grant p_mel to p_ann")
    return "p_mel"


def _far_member(p: People) -> str:
    p.make("p_mel")
    p.do("create role p_between", "grant p_ann to p_between", "grant p_between to p_mel")
    return "p_mel"


def _took_her_name(p: People) -> str:
    p.do("alter role p_ann rename to p_old")
    p.make("p_ann")
    return "p_ann"


def _may_only_grant_her(p: People) -> str:
    """From 16 on: neither inherits nor may SET ROLE, and could give himself both."""
    p.make("p_mel")
    p.do("grant p_ann to p_mel with admin true, inherit false, set false")
    return "p_mel"


def _made_her(p: People) -> str:
    """From 16 on whoever creates a role may grant it."""
    p.make("p_mel")
    p.do(
        "drop role p_ann",
        "alter role p_mel createrole",
        "grant indexpilot_operator, indexpilot_approver to p_mel with admin option",
    )
    with psycopg.connect(p.room.cluster.conninfo(p.room.dbname, "p_mel"), autocommit=True) as conn:
        conn.execute("create role p_ann login")
        conn.execute("grant indexpilot_operator, indexpilot_approver to p_ann")
    return "p_mel"


BEFORE: dict[str, Callable[[People], str]] = {"may only grant her": _may_only_grant_her, "made her": _made_her}
SAME: dict[str, Callable[[People], str]] = {
    "renamed": _renamed, "made again": _made_again, "member of her": _member_of_her, "her group": _her_group,
    "far member": _far_member, "took her name": _took_her_name,
}  # fmt: skip


async def _as(people: People, name: str) -> Journal:
    return await people.room.journal(name)


@pytest.mark.parametrize("how", [*SAME, *BEFORE])
async def test_who_is_not_certainly_another_person_decides_nothing(people: People, how: str) -> None:
    if how in BEFORE and people.room.cluster.version < 160000:
        return  # the options of a membership came with 16
    people.make("p_ann")
    who = BEFORE[how](people) if how in BEFORE else ""
    ann = await _as(people, "p_ann")
    plan = make_plan()
    change_id = await ann.propose(plan, target="prod", reason="slow")
    bypass = await ann.bypass_on(["rate"], "incident", 60)
    stuck = await ann.propose(make_plan("other"), target="prod", reason="slow")
    people.do(f"update indexpilot.changes set state = 'needs_operator' where id = {stuck}")
    who = who or SAME[how](people)
    other = await _as(people, who)
    await refused(other.approve(change_id, plan.sha256, HOUR), "self_approval")
    await refused(other.review_bypass(bypass, "fine"), "self_approval")
    await refused(other.resolve(stuck, State.FAILED, "looked at it"), "self_approval")
    await refused(other.withdraw(change_id, "mine"), "not_requester")
    bob = await people.room.journal("j_bob")  # somebody else may
    await bob.approve(change_id, plan.sha256, HOUR)
    assert [a.another for a in (await bob.change(change_id)).approvals] == [True]


@pytest.mark.parametrize("how", ["renamed", "made again", "became a member", "lost the right"])
async def test_an_approval_is_void_when_its_person_is_none_any_more(people: People, how: str) -> None:
    people.make("p_ann")
    people.make("p_app", "indexpilot_approver")
    ann, app = await _as(people, "p_ann"), await _as(people, "p_app")
    plan = make_plan()
    change_id = await ann.propose(plan, target="prod", reason="slow")
    await app.approve(change_id, plan.sha256, HOUR)
    if how == "renamed":
        people.do("alter role p_app rename to p_app2")
    elif how == "made again":
        await app.close()
        people.do("drop role p_app")
        people.make("p_app", "indexpilot_approver")
    elif how == "became a member":
        people.do("grant p_ann to p_app")
    else:
        people.do("revoke indexpilot_approver from p_app")
    code = "self_approval" if how == "became a member" else "approver_revoked"
    await refused(ann.claim(change_id, **claim_terms()), code)


async def test_a_row_without_an_oid_is_nobodys_to_decide(people: People) -> None:
    """As rows of before version 2, or from a backup of another cluster, are."""
    alice, bob = await people.room.journal("j_alice"), await people.room.journal("j_bob")
    plan = make_plan()
    change_id = await alice.propose(plan, target="prod", reason="slow")
    people.do("update indexpilot.changes set requested_by_oid = null")
    await refused(bob.approve(change_id, plan.sha256, HOUR), "self_approval")
    other = await people.room.approved(alice, bob)
    people.do("update indexpilot.approvals set approver_oid = null")
    await refused(alice.claim(other, **claim_terms()), "self_approval")


async def test_two_people_still_work_and_the_log_names_their_oids(people: People) -> None:
    people.make("p_ann", "indexpilot_operator")
    people.make("p_app", "indexpilot_approver")
    ann, app = await _as(people, "p_ann"), await _as(people, "p_app")
    change_id = await people.room.approved(ann, app)
    claim = await ann.claim(change_id, **claim_terms())
    await walk(ann, claim, State.RUNNING, State.FAILED)
    events = {e.action: e.detail for e in (await ann.change(change_id)).events}
    with people.room.admin() as conn:
        oids = {str(r[0]): r[1] for r in conn.execute("select rolname, oid::bigint from pg_roles where rolname ~ '^p_'")}
    assert events["proposed"]["requested_by_oid"] == oids["p_ann"]
    assert events["approved"]["approver_oid"] == events["claimed"]["approver_oid"] == oids["p_app"]
