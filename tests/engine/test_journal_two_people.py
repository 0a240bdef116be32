"""Two people, and the one row in which an administrator lets a single operator be both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import Plan, State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards import approval
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now, evaluate
from indexpilot_tui.engine.safeguards.terms import terms_of
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]

HOUR = timedelta(hours=1)
DROP: dict[str, Any] = {"kind": "drop", "index_oid": 77}
ORDINARY = {
    "create": make_plan(),
    "rebuild": make_plan(kind="reindex", index_oid=77),
}
STRICT = {
    "unique create": make_plan(unique=True),
    "unique create that calls itself another": make_plan(ddl="CREATE UNIQUE INDEX x ON public.orders (customer_id)"),
    "drop of an index that is called unused": make_plan(**DROP, saved={"scans": 0}),
    "drop of a used index": make_plan(**DROP, saved={"scans": 1}),
    "drop of an index whose use is not known": make_plan(**DROP, saved={"scans": None}),
    "drop without any figures": make_plan(**DROP, saved={}),
    "drop of a unique index": make_plan(**DROP, unique=True, saved={"scans": 0}),
}


def allow(room: Room, who: str) -> None:
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set self_approval = %s", (who,))


async def own(both: Journal, plan: Plan) -> int:
    return await both.propose(plan, target="prod", reason="slow")


async def test_by_default_everything_needs_two(room: Room) -> None:
    both = await room.journal("j_both")
    for plan in (ORDINARY | STRICT).values():
        change_id = await own(both, plan)
        assert not await both.alone(change_id)
        await refused(both.approve(change_id, plan.sha256, HOUR), "self_approval")


async def test_a_single_operator_for_ordinary_changes(room: Room) -> None:
    both = await room.journal("j_both")
    allow(room, "ordinary")
    for plan in STRICT.values():
        change_id = await own(both, plan)
        assert not await both.alone(change_id)
        await refused(both.approve(change_id, plan.sha256, HOUR), "self_approval")
    for plan in ORDINARY.values():
        change_id = await own(both, plan)
        assert await both.alone(change_id)
        await both.approve(change_id, plan.sha256, HOUR)
        await walk(both, await both.claim(change_id, **claim_terms()), State.FAILED)
    bypass = await both.bypass_on(["rate"], "incident", 60)
    await refused(both.review_bypass(bypass, "fine"), "self_approval")


async def test_a_single_operator_for_everything(room: Room) -> None:
    both = await room.journal("j_both")
    allow(room, "all")
    for plan in (ORDINARY | STRICT).values():
        change_id = await own(both, plan)
        await both.approve(change_id, plan.sha256, HOUR)
        claim = await both.claim(change_id, **claim_terms(rate_max=50))
        await walk(both, claim, State.RUNNING, State.NEEDS_OPERATOR)
        await both.resolve(change_id, State.FAILED, "looked at it")
    await both.review_bypass(await both.bypass_on(["rate"], "incident", 60), "fine")


async def test_every_row_of_the_log_shows_it(room: Room) -> None:
    both = await room.journal("j_both")
    await own(both, make_plan())
    allow(room, "all")
    await own(both, make_plan())
    await both.stop_starts("x")
    allow(room, "never")
    await own(both, make_plan())
    shown = [(event.action, event.detail.get("self_approval")) for event in await both.events()]
    assert shown == [
        ("proposed", None), ("policy.changed", "all"), ("proposed", "all"), ("starts.stopped", "all"),
        ("policy.changed", None), ("proposed", None),
    ]  # fmt: skip
    changed = (await both.events())[1]
    assert (changed.detail["from"], changed.detail["to"]) == ({"self_approval": "never"}, {"self_approval": "all"})
    assert (await both.verify_chain()).ok


async def test_an_opt_out_that_was_taken_back_stops_what_one_person_approved(room: Room) -> None:
    both, bob = await room.journal("j_both"), await room.journal("j_bob")
    plan = make_plan()
    allow(room, "all")
    change_id = await own(both, plan)
    await both.approve(change_id, plan.sha256, HOUR)
    allow(room, "never")
    await refused(both.claim(change_id, **claim_terms()), "self_approval")
    other = await room.approved(both, bob)
    await both.claim(other, **claim_terms())


async def test_a_rollback_is_covered_by_the_one_person_who_was_allowed(room: Room) -> None:
    both = await room.journal("j_both")
    plan = make_plan()
    allow(room, "ordinary")
    change_id = await own(both, plan)
    await both.approve(change_id, plan.sha256, HOUR)
    claim = await both.claim(change_id, **claim_terms())
    await both.set_index(change_id, 1, 77, True)
    kept = make_plan(**DROP, saved={"scans": 9})
    await walk(both, claim, State.RUNNING, State.VERIFYING)
    await both.keep_way_back(change_id, 1, kept)
    await both.advance(change_id, 1, State.VERIFYING, State.OBSERVING, "verified", {})
    back = await both.propose(kept, target="prod", reason="slower", parent_id=change_id, rollback=True)
    allow(room, "never")
    await refused(both.claim(back, **claim_terms()), "self_approval")
    allow(room, "ordinary")
    await both.claim(back, **claim_terms())


async def test_the_gate_says_the_same_as_the_claim(room: Room) -> None:
    both = await room.journal("j_both")
    target = socket_target(room.cluster, room.dbname)
    plan = make_plan(terms=terms_of(target, Settings()))
    allow(room, "all")
    change_id = await own(both, plan)
    await both.approve(change_id, plan.sha256, HOUR)

    async def gate() -> Verdict:
        now, change = await database_now(both.session), await both.change(change_id)
        ctx = GateContext(target, Settings(), both.session, now, journal=both, plan=plan, change=change)
        (verdict,) = await evaluate(ctx, (approval.GATE,))
        return verdict

    assert (await gate()).status is Status.PASS
    allow(room, "ordinary")
    assert (await gate()).status is Status.PASS
    allow(room, "never")
    assert (await gate()).measured == "self"


async def test_no_operator_and_no_approver_sets_it(room: Room) -> None:
    for user in ("j_alice", "j_bob", "j_both", "j_mona"):
        with psycopg.connect(room.cluster.conninfo(room.dbname, user), autocommit=True) as conn:
            for column, value in (("self_approval", "'all'"), ("bypass_max_minutes", "60"), ("max_starts", "9")):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(f"update indexpilot.policy set {column} = {value}".encode())
    with room.admin() as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("update indexpilot.policy set self_approval = 'sometimes'")
