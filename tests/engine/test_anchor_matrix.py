"""The heads that were kept outside against the log that stands there now: which replacements are told, which are proven."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from indexpilot_tui.engine.journal.anchor import Anchor, Anchors, Kept
from indexpilot_tui.engine.journal.backup import write_backup
from indexpilot_tui.engine.journal.backup_check import check_backup
from indexpilot_tui.engine.journal.chain import ChainReport, Restored
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.restore import restore
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import AnchorPolicy
from tests.engine.journal_room import Room, make_plan, make_room, refused

pytest_plugins = ["tests.engine.journal_fixtures"]
TAMPERED = pytest.mark.family(25, no_oracle="the log is replaced on purpose, and the verifier judged")

# -- verdicts, without a server ----------------------------------------------------------------------------------------------


def kept(*heads: tuple[str, int], begins: int | None = None) -> Anchors:
    """Heads of other chains, in the order of the file; `begins`: where the log's own first head stands in it."""
    return Anchors({}, tuple(Kept(chain, seq, f"h{seq}", line) for line, (chain, seq) in enumerate(heads, 1)), begins)


ROW = {"old": Restored("old", 5)}
OURS = {seq: f"h{seq}" for seq in range(1, 6)}
# (heads of other chains, line of the first own head, `restored` rows, own rows) -> whether it holds, heads that were lost
MATRIX: dict[str, tuple[Anchors, dict[str, Restored], dict[int, str], bool, int]] = {
    "no other chain": (kept(), {}, OURS, True, 0),
    "another chain": (kept(("old", 4)), {}, OURS, False, 0),
    "another chain, then this one": (kept(("old", 4), begins=2), {}, OURS, False, 0),
    "another chain, then this one for long": (kept(("old", 4), begins=90), {}, OURS, False, 0),
    "restored": (kept(("old", 4)), ROW, OURS, True, 0),
    "restored, then this one": (kept(("old", 2), ("old", 5), begins=3), ROW, OURS, True, 0),
    "restored, with rows lost": (kept(("old", 4), ("old", 8), ("old", 9), begins=4), ROW, OURS, True, 2),
    "restored from what nobody saw": (kept(("old", 8)), ROW, OURS, False, 0),
    "restored from another chain": (kept(("older", 4)), ROW, OURS, False, 0),
    "restored from other rows": (kept(("old", 3), ("old", 4)), ROW, OURS | {4: "forged"}, False, 0),
    "two heads: the old one goes on": (kept(("old", 4), ("old", 5), begins=1), ROW, OURS, False, 0),
    "two old chains, one told": (kept(("older", 2), ("old", 4)), ROW, OURS, False, 0),
    "two old chains, both told": (kept(("older", 2), ("old", 4)), ROW | {"older": Restored("older", 3)}, OURS, True, 0),
    "a row that retention removed": (kept(("old", 2)), ROW, {}, True, 0),
}


@pytest.mark.parametrize("name", MATRIX)
def test_verdicts(name: str) -> None:
    anchors, rows, hashes, ok, lost = MATRIX[name]
    report = anchors.judged(ChainReport(True, 9, None, (9, "h9"), chain_id="new"), rows, hashes)
    assert (report.ok, report.anchors_lost) == (ok, lost), report.reason
    assert bool(report.reason) is not ok


# -- on a real server --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def room18(cluster18: LocalCluster) -> AsyncIterator[Room]:
    async with make_room(cluster18) as made:
        yield made


async def anchored(room: Room, place: Path) -> Journal:
    alice = await room.journal("j_alice")
    alice.anchor = Anchor(AnchorPolicy(file=place))
    return alice


async def ends(alice: Journal, number: int) -> None:
    for _ in range(number):
        await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")


def tamper(room: Room, statement: str) -> None:
    with room.admin() as conn:
        conn.execute(f"alter table indexpilot.mutation_log disable trigger append_only; {statement}".encode())


async def backed_up(room: Room, path: Path) -> None:
    with path.open("wb") as file:
        await write_backup(await room.journal("j_mona"), file, {})


def renamed(place: Path, chain: str) -> None:
    """The heads as they would be of a log of another name."""
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    place.write_text("".join(json.dumps(line | {"chain_id": chain}) + "\n" for line in lines))


@TAMPERED
async def test_a_real_restore_of_an_older_backup_is_accepted_and_says_what_is_lost(
    room18: Room, cluster18: LocalCluster, tmp_path: Path
) -> None:
    place, backup = tmp_path / "heads", tmp_path / "backup"
    alice = await anchored(room18, place)
    await ends(alice, 2)
    await backed_up(room18, backup)
    await ends(alice, 2)  # after the backup: two heads of rows that will be lost
    async with make_room(cluster18) as other:
        with other.admin() as conn:
            name = conn.info.dbname
        lines = [json.loads(line) for line in place.read_text().splitlines()]
        place.write_text("".join(json.dumps(line | {"database": name}) + "\n" for line in lines))  # in the same place
        await restore(await _owner(other), backup, check_backup(backup))
        there = await anchored(other, place)
        report = await there.verify_chain(place)
        assert (report.ok, report.anchors_lost) == (True, 2), report
        await ends(there, 1)
        report = await there.verify_chain(place)
        assert (report.ok, report.anchors_met, report.anchors_lost) == (True, 1, 2), report
        # the old log goes on somewhere: then there are two
        with place.open("a") as file:
            file.write(json.dumps(lines[-1] | {"database": name, "seq": 99}) + "\n")
        report = await there.verify_chain(place)
        assert not report.ok
        assert "two of them" in report.reason


async def _owner(room: Room) -> Journal:
    from indexpilot_tui.engine.postgres.session import Purpose, connect
    from indexpilot_tui.settings.model import Settings
    from tests.conftest import socket_target

    session = await connect(socket_target(room.cluster, room.dbname), Purpose.CONTROL, Settings())
    journal = await Journal.open(session)
    room.opened.append(journal)
    return journal


@TAMPERED
@pytest.mark.parametrize(
    "forged",
    [
        {}, {"chain_before": "OLD"}, {"chain_before": "OLD", "seq_before": 1, "hash_before": "0" * 64},
        {"chain_before": "other", "seq_before": "HEAD", "hash_before": "HEAD"},
    ],
)  # fmt: skip
async def test_a_restored_row_that_names_another_head_proves_nothing(
    room18: Room, tmp_path: Path, forged: dict[str, Any]
) -> None:
    place = tmp_path / "heads"
    alice = await anchored(room18, place)
    await ends(alice, 2)
    head = await alice.head()
    values = {"OLD": head.chain_id, "HEAD": None}
    detail = {key: values.get(value, value) if isinstance(value, str) else value for key, value in forged.items()}
    with room18.admin() as conn:
        conn.execute("update indexpilot.chain_head set chain_id = gen_random_uuid()")
        conn.execute("select indexpilot._log(null, null, 'restored', %s::jsonb)", (json.dumps(detail),))
    assert (await alice.verify_chain()).ok
    assert not (await alice.verify_chain(place)).ok
    await ends(alice, 2)
    assert not (await alice.verify_chain(place)).ok


@TAMPERED
async def test_a_clock_that_is_set_back_changes_no_order(room18: Room, tmp_path: Path) -> None:
    place = tmp_path / "heads"
    alice = await anchored(room18, place)
    await ends(alice, 3)
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    for line, at in zip(
        lines, ("2030-01-01T00:00:00+00:00", "2001-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"), strict=True
    ):
        line["at"] = at
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = await alice.verify_chain(place)
    assert (report.ok, report.anchors_met) == (True, 3)


# -- what may be written into the log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "detail"),
    [
        ("approved", {}), ("restored", {}), ("log.cut", {}), ("anything.else", {}), ("looks fine to me", {}), ("", {}),
        ("phase", {"text": "x" * 300_000}), ("way_back", {}), ("statistics.enrolled", {}),
    ],
)  # fmt: skip
async def test_nobody_writes_rows_of_his_own_invention(room18: Room, action: str, detail: dict[str, Any]) -> None:
    alice, bob = await room18.journal("j_alice"), await room18.journal("j_bob")
    change_id = await room18.approved(alice, bob)
    before = len(await alice.events())
    with pytest.raises(Exception, match="reserved|longer|no object"):
        await alice.append(change_id, 0, action, detail)
    assert len(await alice.events()) == before


async def test_reasons_are_sentences(room18: Room) -> None:
    alice, bob = await room18.journal("j_alice"), await room18.journal("j_bob")
    long = "x" * 2001
    await refused(alice.propose(make_plan(), target="prod", reason=long), "reason")
    change_id = await alice.propose(make_plan(), target="prod", reason="x" * 2000)
    calls: list[Callable[[], Any]] = [
        lambda: alice.withdraw(change_id, long), lambda: bob.reject(change_id, long), lambda: alice.stop_starts(long),
        lambda: alice.bypass_on(["rate"], long, 60), lambda: alice.request_abort(change_id, long),
    ]  # fmt: skip
    for call in calls:
        await refused(call(), "reason")
