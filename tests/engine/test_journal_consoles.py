"""Twenty consoles at once, twenty rounds: one winner for a change, five of twenty claims at five an hour. `-s` shows the table."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable

import pytest

from indexpilot_tui.engine.journal.journal import Claim, Journal, JournalRefusedError
from indexpilot_tui.localpg import LocalCluster
from tests.engine.journal_room import Room, claim_terms, make_plan, make_room

CONSOLES, ROUNDS, SLOTS = 20, 20, 5


async def outcome(claim: Awaitable[Claim]) -> str:
    """`won`, or the code of the refusal; anything else is an error of the test."""
    try:
        await claim
    except JournalRefusedError as exc:
        return exc.code
    return "won"


async def settle(room: Room) -> None:
    """The next round begins with no change at work and all slots free."""
    with room.admin() as conn:
        conn.execute("update indexpilot.changes set state = 'failed' where state = 'starting'")
        conn.execute("update indexpilot.rate_slots set at = at - interval '2 hours'")


async def one_change(room: Room, alice: Journal, bob: Journal, consoles: list[Journal]) -> Counter[str]:
    change_id = await room.approved(alice, bob)
    return Counter(await asyncio.gather(*(outcome(j.claim(change_id, **claim_terms())) for j in consoles)))


async def many_changes(room: Room, alice: Journal, bob: Journal, consoles: list[Journal]) -> Counter[str]:
    clusters = [str(n) for n in range(1, CONSOLES + 1)]  # one active change in a cluster is another rule
    ids = [await room.approved(alice, bob, make_plan(system_identifier=name)) for name in clusters]
    claims = (
        j.claim(i, **claim_terms(system_identifier=name, rate_max=SLOTS))
        for j, i, name in zip(consoles, ids, clusters, strict=True)
    )
    return Counter(await asyncio.gather(*(outcome(claim) for claim in claims)))


@pytest.mark.slow
async def test_twenty_consoles_twenty_rounds(cluster18: LocalCluster) -> None:
    async with make_room(cluster18) as room:
        alice, bob = await room.journal("j_alice"), await room.journal("j_bob")
        consoles = [await room.journal("j_alice") for _ in range(CONSOLES)]
        print("\nround   one change: won, refused      twenty changes: won, rate_limit      seconds")
        for number in range(1, ROUNDS + 1):
            start = time.monotonic()
            single = await one_change(room, alice, bob, consoles)
            await settle(room)
            many = await many_changes(room, alice, bob, consoles)
            spent = (await alice.rate_status(SLOTS, 3600)).used
            await settle(room)
            seconds = time.monotonic() - start
            print(
                f"{number:5}   {single['won']:15}, {CONSOLES - single['won']:7}   {many['won']:19}, {many['rate_limit']:10}   {seconds:10.2f}"
            )
            assert single == {"won": 1, "state": CONSOLES - 1}
            assert many == {"won": SLOTS, "rate_limit": CONSOLES - SLOTS}
            assert spent == SLOTS
        report = await alice.verify_chain()
        assert report.ok, report
        print(f"{report.rows} rows of the log, the chain holds")
