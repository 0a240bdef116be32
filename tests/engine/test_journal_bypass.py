"""The emergency bypass: what it lifts, for how long, who answers for it, and that it ends by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import PrivilegeError, UsageError
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]


async def test_a_bypass_says_what_who_why_and_until_when(room: Room) -> None:
    alice, mona = await room.journal("j_alice"), await room.journal("j_mona")
    assert await mona.bypass() is None
    number = await alice.bypass_on(["window", "load"], "incident 12 \x1b[2J", 600)
    bypass = await mona.bypass()
    assert bypass is not None
    assert (bypass.scope, bypass.by, bypass.reviewed, bypass.ids) == ({"window", "load"}, "j_alice", False, (number,))
    assert "\x1b" not in bypass.reason
    assert timedelta(seconds=590) < bypass.until - datetime.now(UTC) <= timedelta(seconds=600)
    assert await alice.bypass_off("over") == 1
    assert await mona.bypass() is None
    await refused(alice.bypass_off("again"), "bypass")
    assert [e.action for e in await mona.events()] == ["bypass.on", "bypass.off"]
    assert (await mona.verify_chain()).ok


async def test_it_refuses_everything_else(room: Room) -> None:
    alice = await room.journal("j_alice")
    for scope in (["tls"], ["window", "approval"], ["rate", "kill_switch"], [], ["Window"]):
        error = await refused(alice.bypass_on(scope, "now", 60), "bypass")
        assert "nothing else" in str(error)
    for seconds in (0, -1, 3601, 1e18, float("nan"), float("inf")):
        await refused(alice.bypass_on(["rate"], "now", seconds), "bypass")
    await refused(alice.bypass_on(["rate"], "  ", 60), "reason")
    assert await alice.bypass() is None
    assert await alice.events() == []
    mona = await room.journal("j_mona")
    with pytest.raises(PrivilegeError):
        await mona.bypass_on(["rate"], "now", 60)
    with room.admin() as conn:  # not even an administrator makes one that lasts, or lifts more
        for until, scope in (
            ("61 minutes", "{rate}"),
            ("-1 minutes", "{rate}"),
            ("5 minutes", "{tls}"),
            ("5 minutes", "{}"),
        ):
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute(
                    "insert into indexpilot.bypasses (scope, reason, granted_by, granted_at, until)"
                    " values (%s, 'x', 'x', now(), now() + %s::interval)",
                    (scope, until),
                )


async def test_it_ends_by_the_clock_of_the_database_without_any_process(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    await alice.bypass_on(["rate"], "now", 1.0)
    change_id = await room.approved(alice, bob)
    await asyncio.sleep(1.1)
    assert await bob.bypass() is None
    await refused(alice.claim(change_id, **claim_terms(rate_max=0)), "rate_limit")
    await alice.bypass_on(["rate"], "now", 60)
    with room.admin() as conn:  # the clock is set back behind its beginning
        conn.execute(
            "update indexpilot.bypasses set granted_at = granted_at + interval '1 hour', until = until + interval '1 hour'"
        )
    assert await bob.bypass() is None
    await refused(alice.claim(change_id, **claim_terms(rate_max=0)), "rate_limit")


async def test_two_at_once_lift_together_and_end_apart(room: Room) -> None:
    alice, olga, bob = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob")]
    first = await alice.bypass_on(["rate", "window"], "incident", 60)
    second = await olga.bypass_on(["rate", "load"], "deploy", 600)
    bypass = await bob.bypass()
    assert bypass is not None
    assert bypass.scope == {"rate", "window", "load"}
    assert set(bypass.by.split(", ")) == {"j_alice", "j_olga"}
    rows = {row.id: row for row in await bob.bypasses()}
    assert bypass.until == rows[first].until  # then the window is back, while rate and load are still lifted
    assert await alice.bypass_off("over", first) == 1
    bypass = await bob.bypass()
    assert bypass is not None
    assert (bypass.scope, bypass.until) == ({"rate", "load"}, rows[second].until)
    await bob.bypass_on(["window"], "third", 30)
    assert await bob.bypass_off("all over") == 2
    assert await bob.bypass() is None


async def test_the_claim_honours_rate_and_only_rate(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set max_starts = 1, per_seconds = 3600")
    first, second, third = [await room.approved(alice, bob) for _ in range(3)]
    await walk(alice, await alice.claim(first, **claim_terms(rate_max=1)), State.FAILED)
    number = await alice.bypass_on(["window", "load"], "incident", 600)
    await refused(alice.claim(second, **claim_terms(rate_max=1)), "rate_limit")
    await alice.bypass_off("wrong scope")
    number = await alice.bypass_on(["rate"], "incident", 600)
    claim = await alice.claim(second, **claim_terms(rate_max=1))
    assert claim.slot == 2  # lifted, but still counted
    used = [event for event in (await alice.change(second)).events if event.action == "bypass.used"]
    assert [event.detail["bypasses"][0]["id"] for event in used] == [number]
    assert {row.id: row.uses for row in await bob.bypasses()}[number] == 1
    # nothing else is lifted with it
    await refused(alice.claim(third, **claim_terms()), "busy")
    await walk(alice, claim, State.FAILED)
    await refused(alice.claim(third, **claim_terms(system_identifier="1")), "other_server")
    unapproved = await alice.propose(make_plan(), target="prod", reason="slow")
    await refused(alice.claim(unapproved, **claim_terms()), "not_approved")
    await bob.stop_starts("hands off")
    await refused(alice.claim(third, **claim_terms()), "kill_switch")
    await bob.allow_starts("go on")
    await alice.bypass_off("over")
    await refused(alice.claim(third, **claim_terms(rate_max=1)), "rate_limit")


async def test_one_person_lifts_for_one_hour_then_a_second_one_looks(room: Room) -> None:
    alice, bob, both = [await room.journal(user) for user in ("j_alice", "j_bob", "j_both")]
    number = await alice.bypass_on(["rate"], "incident", 3600)
    await alice.bypass_off("fixed")
    error = await refused(alice.bypass_on(["rate"], "again", 3600), "review")
    assert "without a second person" in str(error)
    await alice.bypass_on(["load"], "more", 1800)  # within the same hour
    with pytest.raises(PrivilegeError):
        await alice.review_bypass(number, "fine")
    own = await both.bypass_on(["window"], "incident", 60)
    await refused(both.review_bypass(own, "fine"), "self_approval")
    await refused(bob.review_bypass(number, " "), "reason")
    await bob.review_bypass(number, "was needed, 2 builds")
    await refused(bob.review_bypass(number, "twice"), "state")
    with pytest.raises(UsageError, match="no bypass 999"):
        await bob.review_bypass(999, "x")
    rows = {row.id: row for row in await bob.bypasses()}
    assert (rows[number].reviewed_by, rows[number].review_note, rows[number].overdue) == (
        "j_bob",
        "was needed, 2 builds",
        False,
    )


async def test_without_its_review_after_a_day_there_is_no_other(room: Room) -> None:
    alice, olga, bob = [await room.journal(user) for user in ("j_alice", "j_olga", "j_bob")]
    number = await alice.bypass_on(["rate"], "incident", 600)
    with room.admin() as conn:
        conn.execute(
            "update indexpilot.bypasses set granted_at = granted_at - interval '25 h', until = until - interval '25 h'"
        )
    assert [row.overdue for row in await bob.bypasses()] == [True]
    error = await refused(olga.bypass_on(["rate"], "mine", 60), "review")
    assert "j_alice was not reviewed within 24 hours" in str(error)
    await bob.review_bypass(number, "late")
    assert (await bob.events())[-1].detail["late"] is True
    await olga.bypass_on(["rate"], "mine", 60)


async def test_the_administrator_forbids_or_shortens_it(room: Room) -> None:
    alice = await room.journal("j_alice")
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set bypass_max_minutes = 10")
    await refused(alice.bypass_on(["rate"], "incident", 601), "bypass")
    await alice.bypass_on(["rate"], "incident", 500)
    with room.admin() as conn:
        conn.execute("update indexpilot.policy set bypass_max_minutes = 0")
    await refused(alice.bypass_on(["rate"], "incident", 1), "bypass")
    changed = [event for event in await alice.events() if event.action == "policy.changed"]
    assert [event.detail["to"] for event in changed] == [{"bypass_max_minutes": 10}, {"bypass_max_minutes": 0}]
    with room.admin() as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("update indexpilot.policy set bypass_max_minutes = 61")
