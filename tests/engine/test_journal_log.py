"""The mutation log: one chain whoever writes, and every kind of tampering found."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.errors import NotInstalledError, PrivilegeError, ServerError
from indexpilot_tui.localpg import LocalCluster
from tests.engine.journal_room import Room, claim_terms, make_plan, make_room

pytest_plugins = ["tests.engine.journal_fixtures"]


# -- the log --------------------------------------------------------------------------------------------------------------


async def test_concurrent_writers_leave_one_chain(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    change_id = await room.approved(alice, bob)
    await alice.claim(change_id, **claim_terms())
    consoles = [await room.journal("j_alice") for _ in range(8)]

    async def write(journal: Journal, name: int) -> list[int]:
        return [await journal.append(change_id, 1, "phase", {"writer": name, "n": n, "ü": "✓"}) for n in range(20)]

    written = await asyncio.gather(*(write(journal, n) for n, journal in enumerate(consoles)))
    numbers = sorted(seq for part in written for seq in part)
    assert numbers == list(range(numbers[0], numbers[0] + 160))
    report = await alice.verify_chain()
    assert (report.ok, report.rows) == (True, numbers[-1])


@pytest.mark.family(25, no_oracle="the log is broken on purpose, and the verifier judged")
@pytest.mark.parametrize(
    ("tamper", "bad", "why"),
    [
        ("update indexpilot.mutation_log set detail = replace(detail, 'slow', 'fast') where seq = 2", 2, "changed"),
        ("update indexpilot.mutation_log set actor = 'j_bob' where seq = 3", 3, "changed"),
        ("update indexpilot.mutation_log set at = at + interval '1 microsecond' where seq = 3", 3, "changed"),
        ("delete from indexpilot.mutation_log where seq = 2", 2, "missing"),
        ("delete from indexpilot.mutation_log where seq = 1", 1, "missing"),
        ("delete from indexpilot.mutation_log where seq = 4", 4, "ends at row 3"),
        ("delete from indexpilot.mutation_log", 1, "ends at row 0"),
        (
            "update indexpilot.mutation_log set prev_hash = repeat('1', 64) where seq = 3;"
            "update indexpilot.mutation_log l set hash = indexpilot._hash(l) where seq = 3",
            3,
            "does not continue",
        ),
    ],
)
async def test_tampering_is_found(cluster18: LocalCluster, tamper: str, bad: int, why: str) -> None:
    async with make_room(cluster18) as room:
        alice = await room.journal("j_alice")
        for _ in range(4):
            await alice.propose(make_plan(), target="prod", reason="slow")
        assert (await alice.verify_chain()).ok
        with room.admin() as conn:
            with pytest.raises(psycopg.Error, match="append-only"):
                conn.execute(tamper.split(";", maxsplit=1)[0].encode())
            conn.execute("alter table indexpilot.mutation_log disable trigger append_only")
            conn.execute(tamper.encode())
        report = await alice.verify_chain()
        assert not report.ok
        assert report.first_bad_seq == bad
        assert why in report.reason


async def test_log_rows_page_and_clean(room: Room) -> None:
    alice = await room.journal("j_alice")
    first = await alice.propose(make_plan(), target="prod", reason="bell \x07")
    second = await alice.propose(make_plan(), target="prod", reason="slow")
    assert [e.seq for e in await alice.events(limit=1)] == [1]
    assert [e.seq for e in await alice.events(after=1)] == [2]
    (event,) = await alice.events(change_id=first)
    assert event.detail["reason"] == "bell \u2407"
    (raw,) = await alice.log_rows(change_id=second)
    assert raw["actor"] == "j_alice"
    assert '"os_user"' in raw["claimed"]


async def test_a_held_log_is_an_error_not_a_hang(room: Room) -> None:
    alice = await room.journal("j_alice")
    with room.admin() as conn, conn.transaction():
        conn.execute("select 1 from indexpilot.chain_head for update")
        begin = asyncio.get_running_loop().time()
        with pytest.raises(ServerError, match="journal cannot be written") as caught:
            await alice.propose(make_plan(), target="prod", reason="slow")
        assert asyncio.get_running_loop().time() - begin < 4.5
        assert "idle in transaction" in str(caught.value)
    assert await alice.changes(10) == []


async def test_before_a_start_the_log_says_whether_it_can_be_written(room: Room) -> None:
    alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
    await alice.must_write()
    with pytest.raises(PrivilegeError, match="j_bob may not start changes") as caught:
        await bob.must_write()
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("GRANT indexpilot_operator TO j_bob")
    with room.admin() as conn:  # as a control schema of an earlier program is
        conn.execute("drop function indexpilot.check_writable()")
    with pytest.raises(NotInstalledError, match="made by an older program: .*check_writable") as older:
        await alice.must_write()
    assert "setup-sql" in str(older.value.remedy)
    assert "keeps every row" in str(older.value.remedy)
    with room.admin() as conn:
        conn.execute(setup_sql().encode())
    await alice.must_write()
