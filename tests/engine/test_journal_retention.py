"""Retention of what stands beside the log: bypasses and slots go from their beginning with a hash of what went, verdicts with
the changes that have ended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from indexpilot_tui.engine.journal.backup import BackupFile, write_backup
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.retention import retain, terms
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.engine.journal_room import Room, claim_terms, make_plan, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]
HASH = "select encode(sha256(convert_to(string_agg(to_jsonb(x)::text, E'\\n' order by id), 'UTF8')), 'hex') from {} x where id <= {}"


def admin(room: Room, text: str) -> list[tuple[object, ...]]:
    with room.admin() as conn:
        cursor = conn.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


async def lifted(room: Room, *, reviewed: bool) -> int:
    alice, bob = room.opened[0], room.opened[1]
    number = await alice.bypass_on(["rate"], "incident", 60)
    await alice.bypass_off("over")
    if reviewed:
        await bob.review_bypass(number, "right")
    return number


async def started(room: Room, index: str, *, ends: bool = True) -> int:
    """A change that was claimed, and a verdict about it."""
    alice, bob = room.opened[0], room.opened[1]
    change_id = await room.approved(alice, bob, make_plan(index))
    await alice.record_gates(
        change_id, [Verdict("tls", Status.PASS, "", "", "", "on"), Verdict("load", Status.PASS, "", "", "", "")]
    )
    claim = await alice.claim(change_id, **claim_terms())
    await walk(alice, claim, *((State.RUNNING, State.VERIFYING, State.DONE) if ends else ()))
    return change_id


async def two_people(room: Room) -> Journal:
    alice = await room.journal("j_alice")
    await room.journal("j_bob")
    return alice


async def test_bypasses_go_from_their_beginning(room: Room) -> None:
    """None that somebody has yet to answer for; what went is proved by the chain."""
    alice = await two_people(room)
    first = [await lifted(room, reviewed=True) for _ in range(3)]
    open_one = await lifted(room, reviewed=False)
    later = await lifted(room, reviewed=True)
    admin(
        room, "update indexpilot.bypasses set granted_at = granted_at - interval '400 d', until = until - interval '400 d'"
    )
    await refused(alice.prune("bypasses", 364), "retention")
    assert await alice.prune("bypasses", 401) == 0
    hashed = admin(room, HASH.format("indexpilot.bypasses", first[1]))
    assert await alice.prune("bypasses", 365, 2) == 2
    cut = (await alice.events())[-1]
    assert cut.action == "bypasses.cut"
    assert (cut.detail["first_id"], cut.detail["last_id"], cut.detail["rows"]) == (first[0], first[1], 2)
    assert [(cut.detail["sha256"],)] == hashed
    assert [await alice.prune("bypasses", 365) for _ in range(2)] == [1, 0]
    assert [b.id for b in await alice.bypasses()] == [later, open_one]
    await room.opened[1].review_bypass(open_one, "right")
    assert await alice.prune("bypasses", 365) == 2
    assert (await alice.verify_chain()).ok


async def test_a_bypass_in_force_stays(room: Room) -> None:
    alice = await two_people(room)
    number = await alice.bypass_on(["rate"], "incident", 3600)
    await room.opened[1].review_bypass(number, "right")
    admin(room, "update indexpilot.policy set keep_log_days = 1")
    admin(room, "alter table indexpilot.bypasses drop constraint bypasses_check")
    admin(room, "update indexpilot.bypasses set granted_at = granted_at - interval '40 d'")
    assert await alice.prune("bypasses", 1) == 0
    assert await alice.bypass() is not None


async def test_what_went_is_proved_by_an_older_backup(room: Room, tmp_path: Path) -> None:
    """Whatever the time zone of the session that removed it: the hash is of what the backup's lines say."""
    with room.admin() as conn:
        conn.execute("alter role j_alice set timezone = 'Asia/Kathmandu'")
    try:
        alice = await two_people(room)
    finally:
        with room.admin() as conn:
            conn.execute("alter role j_alice reset timezone")
    assert await alice.session.value("show timezone") == "Asia/Kathmandu"
    await lifted(room, reviewed=True)
    await started(room, "a")
    admin(
        room, "update indexpilot.bypasses set granted_at = granted_at - interval '400 d', until = until - interval '400 d'"
    )
    admin(room, "update indexpilot.rate_slots set at = at - interval '400 d'")
    path = tmp_path / "backup.jsonl"
    with path.open("wb") as file:
        await write_backup(alice, file, {})
    kept = list(BackupFile(path).rows())
    for table in ("bypasses", "rate_slots"):
        assert await alice.prune(table, 365) == 1
        cut = (await alice.events())[-1]
        assert cut.action == f"{table}.cut"
        text = "\n".join(
            str(admin(room, f"select '{json.dumps(row)}'::jsonb::text")[0][0]) for name, row in kept if name == table
        )
        assert cut.detail["sha256"] == hashlib.sha256(text.encode()).hexdigest()


async def test_nothing_goes_when_nobody_says_how_long_it_is_kept(room: Room) -> None:
    alice = await two_people(room)
    await started(room, "a")
    admin(room, "delete from indexpilot.policy")
    for what in ("mutation_log", "bypasses", "rate_slots", "gate_verdicts"):
        await refused(alice.prune(what, 1), "retention")


async def test_slots_go_when_nothing_counts_them(room: Room) -> None:
    alice = await two_people(room)
    for name in ("a", "b"):
        await started(room, name)
    running = await started(room, "c", ends=False)
    admin(room, "update indexpilot.rate_slots set at = at - interval '100 days'")
    assert await alice.prune("rate_slots", 101) == 0
    admin(
        room, "update indexpilot.policy set max_starts = 5, per_seconds = 120 * 86400"
    )  # an administrator's ceiling counts them
    assert await alice.prune("rate_slots", 90) == 0
    admin(room, "update indexpilot.policy set max_starts = null, per_seconds = null")
    hashed = admin(room, HASH.format("indexpilot.rate_slots", 2))
    assert await alice.prune("rate_slots", 90) == 2
    cut = (await alice.events())[-1]
    assert (cut.action, cut.detail["rows"], cut.detail["older_than_days"]) == ("rate_slots.cut", 2, 90)
    assert [(cut.detail["sha256"],)] == hashed
    assert await alice.prune("rate_slots", 90) == 0
    assert admin(room, "select change_id from indexpilot.rate_slots") == [(running,)]
    assert (await alice.verify_chain()).ok


async def test_verdicts_go_with_the_changes_that_have_ended(room: Room) -> None:
    alice = await two_people(room)
    done, running = await started(room, "a"), await started(room, "b", ends=False)
    admin(room, "update indexpilot.gate_verdicts set evaluated_at = evaluated_at - interval '200 days'")
    assert await alice.prune("gate_verdicts", 201) == 0
    assert [await alice.prune("gate_verdicts", 180, 1) for _ in range(3)] == [1, 1, 0]
    assert (await alice.change(done)).verdicts == ()
    assert len((await alice.change(running)).verdicts) == 2
    assert [e.detail["what"] for e in await alice.events() if e.action == "pruned"] == ["gate_verdicts"] * 2
    with pytest.raises(ServerError, match="no retention of"):
        await alice.prune("approvals", 400)


async def test_what_a_console_removes_and_what_the_terms_never_undercut(room: Room) -> None:
    alice = await two_people(room)
    await lifted(room, reviewed=True)
    await started(room, "a")
    for table, column in (("bypasses", "granted_at"), ("rate_slots", "at"), ("gate_verdicts", "evaluated_at")):
        also = ", until = until - interval '400 d'" if table == "bypasses" else ""
        admin(room, f"update indexpilot.{table} set {column} = {column} - interval '400 d'{also}")
    short = {"bypasses_days": 1, "rate_slots_days": 1, "gate_verdicts_days": 1}
    settings = validated(
        Settings,
        {
            "operational": {"data_retention": short},
            "rate_limiter": {"index_creation": {"max_requests": 5, "time_window_seconds": 3 * 86_400}},
        },
    )
    kept = await terms(alice, settings)
    assert (kept["bypasses"], kept["rate_slots"], kept["gate_verdicts"]) == (365, 3, 1)
    removed = await retain(alice, settings, batches=2)
    assert {what: removed[what] for what in ("bypasses", "rate_slots", "gate_verdicts")} == {
        "bypasses": 1, "rate_slots": 1, "gate_verdicts": 2,
    }  # fmt: skip
    assert (await alice.verify_chain()).ok
