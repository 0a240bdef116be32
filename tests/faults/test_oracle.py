"""The oracle itself: each of its five questions is answered wrongly once, and it says so. And the table says what ran."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.model.change import State
from tests.faults import oracle
from tests.faults.busy import TABLES
from tests.faults.table import rows
from tests.faults.traffic import because_of_us
from tests.faults.workshop import OPERATOR, OWNER, Workshop

FORGED = "this test breaks what the oracle is for"


async def built(workshop: Workshop) -> int:
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    assert await oracle.ask(workshop, settle_s=0) == []
    assert [deed.sql.split(" ON ")[0] for deed in oracle.deeds(workshop)] == ["CREATE INDEX CONCURRENTLY t_v_idx"]
    workshop.not_asked = FORGED
    return change_id


async def asked(workshop: Workshop) -> str:
    (violation,) = await oracle.ask(workshop, settle_s=0)
    return violation


async def test_a_leftover_is_seen(workshop: Workshop) -> None:
    await built(workshop)
    with pytest.raises(psycopg.errors.UniqueViolation):
        workshop.sql("create unique index concurrently dup on app.t ((1))")
    assert "an INVALID index is left behind: app.dup" in await asked(workshop)
    workshop.theirs.add("app.dup")
    assert await oracle.ask(workshop, settle_s=0) == []


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("drop index app.t_v_idx", "is observing, but its index is not there"),
        ("update indexpilot.changes set state = 'failed'", "is failed, but its index t_v_idx is there"),
        ("update indexpilot.changes set index_valid = false", "its index is not recorded as valid"),
        ("update indexpilot.changes set state = 'running'", "is running and nobody brings it to an end"),
        ("update pg_index set indisready = false where indexrelid = 'app.t_v_idx'::regclass", "its index is not ['ready']"),
        ("insert into indexpilot.rate_slots (change_id, claimed_by) values (1, 'x')", "spent 2 slots"),
        ("delete from indexpilot.rate_slots", "spent 0 slots"),
    ],
)
async def test_a_row_that_does_not_say_what_is_so_is_seen(workshop: Workshop, deed: str, said: str) -> None:
    await built(workshop)
    workshop.sql(f"set allow_system_table_mods = on; {deed}")
    assert said in await asked(workshop)


async def test_what_was_made_of_a_part_goes_with_the_index_of_the_whole(workshop: Workshop) -> None:
    """A part that was rebuilt, and the whole taken back later, are no contradiction; a part that went alone is one."""
    workshop.sql(TABLES)
    whole = await workshop.approved("create index on app.p (w)")
    await workshop.spawn(whole)
    change = await workshop.until(whole, State.OBSERVING, State.DONE)
    part = await workshop.approved("reindex index app.p_a_w_idx")
    await workshop.spawn(part)
    await workshop.until(part, State.OBSERVING, State.DONE)
    assert await oracle.ask(workshop) == []
    workshop.sql("alter index app.p_a_w_idx rename to elsewhere")
    assert f"change {part} (reindex) is" in await asked(workshop)
    workshop.sql("alter index app.elsewhere rename to p_a_w_idx")
    back = await propose_rollback(workshop.monitor, workshop.journal, change, "not needed")
    await workshop.spawn(back)
    await workshop.until(back, State.DONE)
    assert await oracle.ask(workshop) == []


async def test_a_step_whose_connection_broke_is_told_of_by_its_loss(workshop: Workshop) -> None:
    """The loss names the part; a step that nothing is told of is seen."""
    rows = [
        {"action": action, "seq": seq}
        for seq, action in enumerate(("claimed", "ddl.intent", "part.intent", "lost", "ddl.outcome"))
    ]
    assert list(oracle._pairs(1, rows, ended=True)) == []
    assert list(oracle._pairs(1, [r for r in rows if r["action"] != "lost"], ended=True)) == [
        "change 1: nothing tells what became of part.intent"
    ]


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("delete from indexpilot.mutation_log where action = 'ddl.intent'", ("is missing", "stands without an intent", "without an intent before it")),
        ("delete from indexpilot.mutation_log where action = 'verified'", ("the chain's head says", "nothing tells what became of verify.intent")),
        ("update indexpilot.mutation_log set action = 'ddl.incident' where action = 'ddl.outcome'", ("was changed", "became of ddl.intent")),
        ("update indexpilot.mutation_log set at = at + interval '1 hour' where action = 'ddl.intent'", ("was changed", "without an intent before it")),
    ],
)  # fmt: skip
async def test_a_log_that_does_not_tell_all_is_seen(workshop: Workshop, deed: str, said: tuple[str, ...]) -> None:
    await built(workshop)
    workshop.sql("alter table indexpilot.mutation_log disable trigger append_only")
    workshop.sql(deed)
    violations = await oracle.ask(workshop, settle_s=0)
    assert len(violations) == len(said), violations
    assert all(any(word in violation for violation in violations) for word in said), violations


async def test_a_deed_that_nobody_announced_is_seen_in_the_servers_log(workshop: Workshop) -> None:
    await built(workshop)
    with psycopg.connect(
        workshop.cluster.conninfo(workshop.dbname, OPERATOR, application_name="ixp:1:1"), autocommit=True
    ) as conn:
        conn.execute(f"set role {OWNER}".encode())
        conn.execute("comment on table app.t is 'mine'")
    assert "without an intent before it" in await asked(workshop)


@pytest.mark.parametrize("others", [False, True])
async def test_a_wait_counts_only_where_it_is_because_of_us(workshop: Workshop, others: bool) -> None:
    """An ALTER TABLE waits for a session of ours, a reader behind it. With a lock of the test's own in the way as well, the
    reader would wait without us, too."""
    ours = psycopg.connect(workshop.cluster.conninfo(workshop.dbname, application_name="ixp:9:9"))
    ours.execute("lock table app.t in access share mode")
    theirs = workshop.blocker("lock table app.t in access share mode") if others else None

    def alter() -> None:
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
            conn.execute("alter table app.t add column extra int")

    thread = threading.Thread(target=alter)
    thread.start()
    time.sleep(oracle.MOST_WAIT_S + 1)
    ours.close()
    if theirs is not None:
        theirs.close()
    thread.join()
    violations = await oracle.ask(workshop, settle_s=0)
    workshop.not_asked = FORGED
    assert len(violations) == (0 if others else 2), violations


def test_whose_fault_a_wait_is() -> None:
    ours = {7, 8}
    assert because_of_us(1, {1: [7]}, ours)
    assert because_of_us(1, {1: [2], 2: [7]}, ours)
    assert because_of_us(1, {1: [2], 2: [7], 7: [9]}, ours)  # that we wait for somebody is no excuse
    assert not because_of_us(1, {1: [2]}, ours)  # who holds it works
    assert not because_of_us(1, {1: [2, 7], 2: []}, ours)
    assert not because_of_us(1, {1: [2], 2: [7, 3]}, ours)
    assert not because_of_us(1, {1: [2], 2: [1]}, ours)
    assert not because_of_us(1, {}, ours)


def report(
    node: str, when: str = "call", outcome: str = "passed", *properties: tuple[str, Any], longrepr: Any = None
) -> Any:
    return SimpleNamespace(
        nodeid=node, when=when, skipped=outcome == "skipped", failed=outcome == "failed", longrepr=longrepr,
        user_properties=[list(p) for p in properties],
    )  # fmt: skip


def test_the_table_counts_what_ran_what_held_and_what_did_not() -> None:
    family = ("family", 3)
    table = rows(
        [
            report("no family"),
            report("a", "call", "passed", family),
            report("a", "teardown", "passed", family, ("oracle", oracle.HELD)),
            report("b", "call", "passed", family, ("injected", 20)),
            report("b", "teardown", "failed", family, ("injected", 20), ("oracle", f"{oracle.VIOLATED}a slot is lost")),
            report("c", "setup", "skipped", family, longrepr=("file", 1, "Skipped: needs root to mount")),
            report("d", "teardown", "passed", family, ("oracle", f"{oracle.NOT_ASKED}sessions only")),
        ]
    )
    assert list(table) == [3]
    row = table[3]
    assert (row.injected, row.asked, row.held, row.failed) == (22, 2, 1, ["b"])
    assert row.verdict == "1 of 2; not asked: sessions only; 1 FAILED; 1 skipped: needs root to mount"
