"""Family 25: what the verifier finds by itself, what it finds with heads that were kept outside, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from indexpilot_tui.engine.journal.anchor import Anchor
from indexpilot_tui.engine.journal.export import json_line, verify_export
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import AnchorPolicy
from tests.engine.journal_room import Room, claim_terms, make_plan, make_room, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]

TAMPERED = pytest.mark.family(25, no_oracle="the log is broken on purpose, and the verifier judged")
OPEN = "alter table indexpilot.mutation_log disable trigger append_only;"
REWRITE = """
do $$ declare r indexpilot.mutation_log; h text := repeat('0', 64);
begin
  for r in select * from indexpilot.mutation_log order by seq loop
    r.prev_hash := h; r.hash := indexpilot._hash(r); h := r.hash;
    update indexpilot.mutation_log l set prev_hash = r.prev_hash, hash = r.hash where l.seq = r.seq;
  end loop;
  update indexpilot.chain_head set hash = h, seq = (select max(seq) from indexpilot.mutation_log);
end $$;"""
# the whole chain computed again, as only a superuser can: nothing but a head that was kept outside tells
CONSISTENT = {
    "a tail with its head": "delete from indexpilot.mutation_log where seq > 4;" + REWRITE,
    "an edited row, all hashes anew": "update indexpilot.mutation_log set detail = replace(detail, 'slow', 'fast') where seq = 3;"
    + REWRITE,
    "two rows that changed places": "update indexpilot.mutation_log set seq = -seq where seq in (2, 3);"
    "update indexpilot.mutation_log set seq = 5 + seq where seq < 0;" + REWRITE,
}
PLAIN = {
    "an edited row": ("update indexpilot.mutation_log set actor = 'j_bob' where seq = 3", 3),
    "a removed row": ("delete from indexpilot.mutation_log where seq = 3", 3),
    "two rows that changed places": (
        "update indexpilot.mutation_log set seq = -seq where seq in (2, 3);"
        "update indexpilot.mutation_log set seq = 5 + seq where seq < 0", 2,
    ),
    "a tail without its head": ("delete from indexpilot.mutation_log where seq > 4", 5),
    "a beginning": ("delete from indexpilot.mutation_log where seq < 3", 1),
    "a row put in": (
        "insert into indexpilot.mutation_log select 1000, at, change_id, epoch, actor, client_addr, claimed, action, detail,"
        " tenant_id, prev_hash, hash from indexpilot.mutation_log where seq = 3", 7,
    ),
}  # fmt: skip


@pytest.fixture
async def room18(cluster18: LocalCluster) -> AsyncIterator[Room]:
    async with make_room(cluster18) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "heads.jsonl"


async def anchored(room: Room, user: str, place: Path, **policy: object) -> Journal:
    journal = await room.journal(user)
    journal.anchor = Anchor(AnchorPolicy(file=place, **policy))  # type: ignore[arg-type]
    return journal


async def three_ends(room: Room, place: Path) -> Journal:
    """Six rows, a head outside after rows 2, 4 and 6."""
    alice = await anchored(room, "j_alice", place)
    for _ in range(3):
        await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    return alice


def tamper(room: Room, statement: str) -> None:
    with room.admin() as conn:
        conn.execute((OPEN + statement).encode())


async def test_a_head_is_kept_at_each_end_of_a_change(room18: Room, place: Path) -> None:
    alice, bob = await anchored(room18, "j_alice", place), await anchored(room18, "j_bob", place)
    withdrawn = await alice.propose(make_plan(), target="prod", reason="slow")
    await alice.withdraw(withdrawn, "no")
    rejected = await alice.propose(make_plan(), target="prod", reason="slow")
    await bob.reject(rejected, "no")
    done = await room18.approved(alice, bob)
    await walk(alice, await alice.claim(done, **claim_terms()), State.RUNNING, State.VERIFYING, State.DONE)
    settled = await room18.approved(alice, bob)
    await walk(alice, await alice.claim(settled, **claim_terms()), State.NEEDS_OPERATOR)
    assert len(place.read_text().splitlines()) == 3  # it waits for a person: no end
    await bob.resolve(settled, State.FAILED, "gone")
    late = await room18.approved(alice, bob, hours=0.00001)
    await asyncio.sleep(0.1)
    await refused(alice.claim(late, **claim_terms()), "approval_expired")
    kept = [json.loads(line) for line in place.read_text().splitlines()]
    assert [(k["change"], k["state"]) for k in kept] == [
        (withdrawn, "withdrawn"), (rejected, "rejected"), (done, "done"), (settled, "failed"), (None, "expired"),
    ]  # fmt: skip
    head = await alice.head()
    assert {k["chain_id"] for k in kept} == {head.chain_id}
    assert (kept[-1]["seq"], kept[-1]["hash"]) == (head.seq, head.hash)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    report = await bob.verify_chain(place)
    assert (report.ok, report.anchors_met) == (True, 5)


@TAMPERED
@pytest.mark.parametrize("what", PLAIN)
async def test_found_without_any_anchor(room18: Room, place: Path, what: str) -> None:
    alice = await three_ends(room18, place)
    statement, bad = PLAIN[what]
    tamper(room18, statement)
    report = await alice.verify_chain()
    assert not report.ok, what
    assert report.first_bad_seq == bad, report


@TAMPERED
@pytest.mark.parametrize("what", CONSISTENT)
async def test_found_only_by_what_was_kept_outside(room18: Room, place: Path, what: str) -> None:
    alice = await three_ends(room18, place)
    tamper(room18, CONSISTENT[what])
    assert (await alice.verify_chain()).ok, "a superuser's consistent rewrite cannot be seen from inside"
    report = await alice.verify_chain(place)
    assert not report.ok, what
    why = "its tail was cut off" if "tail" in what else "was written anew"
    assert why in report.reason


@TAMPERED
async def test_an_old_copy_in_its_place(room18: Room, place: Path) -> None:
    """A replay: the log as it was two changes ago, whole and in itself right."""
    alice = await anchored(room18, "j_alice", place)
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    with room18.admin() as conn:
        conn.execute(
            "create table old_log as table indexpilot.mutation_log; create table old_head as table indexpilot.chain_head"
        )
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="a secret"), "no")
    tamper(
        room18,
        "delete from indexpilot.mutation_log; insert into indexpilot.mutation_log table old_log;"
        "update indexpilot.chain_head h set seq = o.seq, hash = o.hash from old_head o",
    )
    assert (await alice.verify_chain()).ok
    report = await alice.verify_chain(place)
    assert (report.ok, report.first_bad_seq) == (False, 3)
    assert "ends at row 2, and outside a head of row 4" in report.reason
    # and the next head is not kept over it without a word
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    assert (await alice.events())[-1].action == "anchor.failed"
    assert "was kept before" in (await alice.events())[-1].detail["why"]


@TAMPERED
async def test_another_log_in_its_place(room18: Room, place: Path) -> None:
    alice = await three_ends(room18, place)
    with room18.admin() as conn:
        conn.execute("update indexpilot.chain_head set chain_id = gen_random_uuid()")
    assert (await alice.verify_chain()).ok
    report = await alice.verify_chain(place)
    assert not report.ok
    assert "of the chain" in report.reason
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    report = await alice.verify_chain(place)
    assert not report.ok  # later lines of the new one make it no better
    assert "no row of it says that it was restored" in report.reason


@TAMPERED
async def test_an_exported_file_is_verified_like_the_log(room18: Room, tmp_path: Path, place: Path) -> None:
    alice = await three_ends(room18, place)
    chain_id = (await alice.head()).chain_id
    lines = [json_line(row, chain_id) for row in await alice.log_rows()]
    whole, changed = tmp_path / "log.jsonl", tmp_path / "changed.jsonl"
    whole.write_text("\n".join(lines) + "\n")
    report = verify_export(whole, place)
    assert (report.ok, report.rows, report.anchors_met) == (True, 6, 3)
    for tampered, bad in (
        ([*lines[:2], lines[2].replace("slow", "fast"), *lines[3:]], 3),
        ([*lines[:2], *lines[3:]], 3),
        ([lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lines[2:], 1),
    ):
        changed.write_text("\n".join(tampered))
        assert verify_export(changed).first_bad_seq == bad
    changed.write_text("\n".join(lines[:4]))  # an older export, or one with its tail cut off
    assert verify_export(changed).ok
    assert "its tail was cut off" in verify_export(changed, place).reason
    changed.write_text("\n".join([*lines[:3], "{}"]))
    with pytest.raises(UsageError, match="not a row"):
        verify_export(changed)
    changed.write_text("\n".join([*lines[:3], lines[3].replace(chain_id, "other")]))
    with pytest.raises(UsageError, match="two logs"):
        verify_export(changed)


# -- when it cannot be kept -----------------------------------------------------------------------------------------------


async def test_a_failure_is_seen_and_blocks_only_where_it_must(room18: Room, tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "such" / "folder"
    alice, bob = await anchored(room18, "j_alice", nowhere), await room18.journal("j_bob")
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    event = (await bob.events())[-1]
    assert event.action == "anchor.failed"
    assert "No such file" in event.detail["why"]
    change_id = await room18.approved(alice, bob)
    await walk(alice, await alice.claim(change_id, **claim_terms()), State.FAILED)
    change_id = await room18.approved(alice, bob)
    alice.anchor = Anchor(AnchorPolicy(file=nowhere, required=True))
    error = await refused(alice.claim(change_id, **claim_terms()), "anchor")
    assert "control.anchor.required" in str(error)
    assert (await alice.change(change_id)).state is State.APPROVED
    assert (await alice.rate_status(5, 3600)).used == 1
    alice.anchor = Anchor(AnchorPolicy(file=tmp_path / "heads", required=True))
    await alice.claim(change_id, **claim_terms())
    assert json.loads((tmp_path / "heads").read_text())["state"] == "starting"


async def test_the_file_must_be_ours_alone_and_a_line_is_whole_or_apart(room18: Room, place: Path, tmp_path: Path) -> None:
    alice = await three_ends(room18, place)
    with place.open("ab") as file:
        file.write(b'{"at": "2026-')  # the machine crashed here
    assert (await alice.verify_chain(place)).anchors_met == 3
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    assert len(place.read_text().splitlines()) == 5
    with pytest.raises(UsageError, match="is not an anchor"):
        await alice.verify_chain(place)  # in the middle of the file it is told, with its line
    place.write_text("\n".join(line for line in place.read_text().splitlines() if line.endswith("}")))
    assert (await alice.verify_chain(place)).anchors_met == 4
    place.chmod(0o666)
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    assert "others may write" in (await alice.events())[-1].detail["why"]
    place.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(place)
    alice.anchor = Anchor(AnchorPolicy(file=link))
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    assert (await alice.events())[-1].action == "anchor.failed"
    for bad, why in ((tmp_path / "none", "cannot be read"), (Path(os.devnull), "no head of this log")):
        with pytest.raises(UsageError, match=why):
            await alice.verify_chain(bad)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/bin/sh", "-c", "cat >> \"$0\"", "{place}"), ""),
        (("/bin/false",), "status 1"),
        (("/bin/sleep", "30"), "no answer in 0.5 s"),
        (("/no/such/program",), "cannot be started"),
    ],
)  # fmt: skip
async def test_a_program_that_takes_the_head(room18: Room, place: Path, command: tuple[str, ...], why: str) -> None:
    alice = await room18.journal("j_alice")
    argv = tuple(part.replace("{place}", str(place)) for part in command)
    alice.anchor = Anchor(AnchorPolicy(command=argv, timeout_seconds=0.5))
    change_id = await alice.propose(make_plan(), target="prod", reason="slow")
    await alice.withdraw(change_id, "no")
    last = (await alice.events())[-1]
    if why:
        assert why in last.detail["why"]
    else:
        assert last.action == "withdrawn"
        assert json.loads(place.read_text())["change"] == change_id
        assert (await alice.verify_chain(place)).anchors_met == 1


async def test_twenty_consoles_keep_their_heads_in_one_file(room18: Room, place: Path) -> None:
    consoles = [await anchored(room18, "j_alice", place) for _ in range(20)]
    ids = [await consoles[0].propose(make_plan(), target="prod", reason="slow") for _ in consoles]
    await asyncio.gather(*(j.withdraw(i, "no") for j, i in zip(consoles, ids, strict=True)))
    kept = [json.loads(line) for line in place.read_text().splitlines()]
    failed = [e for e in await consoles[0].events() if e.action == "anchor.failed"]
    assert len(kept) + len(failed) == 20
    report = await consoles[0].verify_chain(place)
    assert report.ok, report
    assert report.anchors_met == len({k["seq"] for k in kept})


# -- retention ------------------------------------------------------------------------------------------------------------


def age(room: Room, days: int, up_to: int) -> None:
    """Rows up to this one were written so many days ago; the chain holds."""
    tamper(room, f"update indexpilot.mutation_log set at = at - interval '{days} days' where seq <= {up_to};" + REWRITE)
    with room.admin() as conn:
        conn.execute("alter table indexpilot.mutation_log enable trigger append_only")


async def test_a_cut_is_proved_by_the_chain(room18: Room, place: Path) -> None:
    alice = await three_ends(room18, place)
    age(room18, 400, 4)
    place.unlink()  # of the chain before it was aged
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    assert await alice.prune("mutation_log", 365, 3) == 3
    assert await alice.prune("mutation_log", 365, 3) == 1
    assert await alice.prune("mutation_log", 365, 3) == 0
    report = await alice.verify_chain(place)
    assert report.ok, report
    assert report.cut is not None
    assert (report.cut.last_seq, report.cut.actor, report.cut.older_than_days, report.rows) == (4, "j_alice", 365, 6)
    assert report.anchors_met == 1
    assert [e.seq for e in await alice.events()] == [5, 6, 7, 8, 9, 10]
    chain_id = (await alice.head()).chain_id
    export = place.with_name("log.jsonl")
    export.write_text("\n".join(json_line(row, chain_id) for row in await alice.log_rows()))
    assert verify_export(export, place).ok


@TAMPERED
@pytest.mark.parametrize(
    ("statement", "bad"),
    [
        ("delete from indexpilot.mutation_log where seq <= 5", 5),  # more than the cut says
        ("delete from indexpilot.mutation_log where action = 'log.cut'", 1),  # nothing excuses it any more
        (
            "update indexpilot.mutation_log set detail = replace(detail, '\"last_seq\": 4', '\"last_seq\": 5') where action = 'log.cut'",
            5,
        ),
        ("delete from indexpilot.mutation_log where seq = 6", 6),
    ],
)
async def test_a_cut_excuses_nothing_else(room18: Room, place: Path, statement: str, bad: int) -> None:
    alice = await three_ends(room18, place)
    age(room18, 400, 4)
    assert await alice.prune("mutation_log", 365, 1000) == 4
    assert (await alice.verify_chain()).ok
    tamper(room18, statement)
    report = await alice.verify_chain()
    assert (report.ok, report.first_bad_seq) == (False, bad), report


async def test_heads_of_rows_that_were_removed_are_counted_not_missed(room18: Room, place: Path) -> None:
    alice = await three_ends(room18, place)
    with room18.admin() as conn:
        conn.execute("update indexpilot.policy set keep_log_days = 1")
        # as if two days had passed: the rows keep their time, so their hashes hold
        conn.execute("alter table indexpilot.mutation_log disable trigger append_only")
    age(room18, 2, 4)
    rows = {row["seq"]: row["hash"] for row in await alice.log_rows()}
    kept = [json.loads(line) for line in place.read_text().splitlines()]
    place.write_text("".join(json.dumps(k | {"hash": rows[k["seq"]]}) + "\n" for k in kept))
    assert await alice.prune("mutation_log", 1, 1000) == 4
    report = await alice.verify_chain(place)
    assert (report.ok, report.anchors_met, report.anchors_before_cut) == (
        True,
        1,
        1,
    )  # row 4 is the one behind which it begins
    place.write_text(place.read_text().replace(rows[4], "f" * 64))
    assert "does not begin behind the row 4" in (await alice.verify_chain(place)).reason


async def test_retention_keeps_what_it_must(room18: Room, place: Path) -> None:
    alice, bob = await room18.journal("j_alice"), await room18.journal("j_bob")
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    open_one = await alice.propose(make_plan(), target="prod", reason="open")
    await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
    age(room18, 400, 5)
    await refused(alice.prune("mutation_log", 364), "retention")
    assert await alice.prune("mutation_log", 365) == 2  # the third row is of a change that has not ended
    assert [e.seq for e in await alice.events(change_id=open_one)] == [3]
    assert await alice.prune("mutation_log", 365) == 0
    await bob.reject(open_one, "no")
    assert await alice.prune("mutation_log", 365) == 3
    assert (await alice.verify_chain()).ok


async def test_statistics_of_changes_that_have_ended(room18: Room) -> None:
    alice = await room18.journal("j_alice")
    now = (await alice.session.value("select pg_catalog.clock_timestamp()")) - timedelta(days=200)
    ids = [await alice.propose(make_plan(), target="prod", reason="slow") for _ in range(2)]
    for change_id in ids:
        for phase in ("proposed", "start"):
            await alice.save_stats(change_id, 0, phase, now, None, [])
    await alice.withdraw(ids[0], "no")
    assert await alice.prune("change_stats", 201) == 0
    assert [await alice.prune("change_stats", 180, 1) for _ in range(3)] == [1, 1, 0]
    assert (await alice.stats(ids[0]), len(await alice.stats(ids[1]))) == ({}, 2)
    assert [e.detail["rows"] for e in await alice.events() if e.action == "pruned"] == [1, 1]
