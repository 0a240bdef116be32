"""REINDEX INDEX CONCURRENTLY as a change: done, stopped in each of its phases, killed, and what is never touched."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import rebuild
from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.changes.rollback import plan_rollback
from indexpilot_tui.engine.journal.journal import Claim
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import RefusedError
from tests.faults.test_taken_over import RUNNING, claimed, succeed, walk
from tests.faults.workshop import OWNER, Workshop, actions, check_intents, kill, quick, story

OLD_SNAPSHOT = ("set transaction isolation level repeatable read", "select 1 from app.other")
MAKE = f"set role {OWNER}; create index spare on app.t (v desc) with (fillfactor = 70); comment on index app.spare is 'why'"
REINDEX = "reindex index app.spare"
INDEXES = "select indexrelid::int8, indexrelid::regclass::text, indisvalid from pg_index where indrelid = 'app.t'::regclass"


def oid_of(workshop: Workshop, name: str) -> int:
    return int(str(workshop.sql("select %s::regclass::oid::int8", name)[0][0]))


async def phase(workshop: Workshop, wanted: str, change_id: int) -> None:
    for _ in range(200):
        if workshop.sql("select 1 from pg_stat_progress_create_index where phase = %s", wanted):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {wanted}\n{story(await workshop.journal.change(change_id))}")


@pytest.mark.family(15)
async def test_an_index_is_built_anew_with_all_that_it_had(either: Workshop) -> None:
    either.sql(MAKE)
    either.sql(
        f"set role {OWNER}; create index ex on app.t (lower(w)); alter index app.ex alter column 1 set statistics 300"
    )
    either.sql("alter table app.t cluster on ex; delete from app.t where id % 3 <> 0")
    before = oid_of(either, "app.ex")
    change_id = await either.approved("reindex index app.ex")
    await either.spawn(change_id)
    change = await either.until(change_id, State.OBSERVING)
    check_intents(change)
    assert change.index_oid == oid_of(either, "app.ex") != before
    verified = next(e.detail for e in change.events if e.action == "verified")
    assert verified["lost"] == []
    assert verified["before"]["oid"] == before
    assert verified["after"]["size_bytes"] < verified["before"]["size_bytes"]
    assert verified["after"]["relfilenode"] != verified["before"]["relfilenode"]
    assert str(verified["after"]["size_bytes"]) in change.outcome
    marks = "select indisclustered, (select attstattarget from pg_attribute where attrelid = indexrelid) from pg_index"
    assert either.sql(f"{marks} where indexrelid = 'app.ex'::regclass") == [(True, 300)]
    assert either.invalid() == []
    with pytest.raises(RefusedError, match="nothing to go back to"):
        await plan_rollback(either.monitor, change)
    done = await either.until(change_id, State.DONE)
    assert done.verification is not None


@pytest.mark.family(15)
async def test_a_key_and_an_invalid_index_can_be_rebuilt(workshop: Workshop) -> None:
    with suppress(psycopg.errors.UniqueViolation):
        workshop.sql("create unique index concurrently broken on app.t (v)")
    workshop.sql("update app.t set v = id")
    for name in ("broken", "t_pkey"):  # in this order: an INVALID index on the table holds up every other change
        change_id = await workshop.approved(f"reindex index app.{name}")
        await workshop.spawn(change_id)
        change = await workshop.until(change_id, State.OBSERVING)
        assert change.index_oid == oid_of(workshop, f"app.{name}")
    assert workshop.invalid() == []
    keys = "select conindid::regclass::text from pg_constraint where conrelid = 'app.t'::regclass and contype = 'p'"
    assert workshop.sql(keys) == [("app.t_pkey",)]


@pytest.mark.family(15)
async def test_abort_in_the_build_removes_the_unfinished_copy(either: Workshop) -> None:
    """K1 of the reference: the original stays valid, `spare_ccnew` is left."""
    either.sql(MAKE)
    before = oid_of(either, "app.spare")
    change_id = await either.approved(REINDEX)
    held = either.blocker(*OLD_SNAPSHOT)
    await either.spawn(change_id)
    await phase(either, "waiting for old snapshots", change_id)
    assert either.invalid() == ["app.spare_ccnew"]
    await either.journal.request_abort(change_id, "not tonight")
    await either.until_event(change_id, "clean.intent")
    held.close()
    change = await either.until(change_id, State.FAILED)
    assert "the index stands as before" in change.outcome
    assert either.invalid() == []
    assert oid_of(either, "app.spare") == before
    check_intents(change)


@pytest.mark.family(15)
async def test_abort_after_the_swap_keeps_the_new_index_and_drops_the_old(either: Workshop) -> None:
    """K3: the new index is in place, `spare_ccold` is left."""
    either.sql(MAKE)
    before = oid_of(either, "app.spare")
    change_id = await either.approved(REINDEX)
    # a transaction that began to read after the build's own waits, and ends only after we looked
    first = either.blocker(*OLD_SNAPSHOT)
    await either.spawn(change_id)
    await phase(either, "waiting for old snapshots", change_id)
    reader = either.blocker("select 1 from app.t where v = 5")
    first.close()
    await phase(either, "waiting for readers before marking dead", change_id)
    assert either.invalid() == ["app.spare_ccold"]
    await either.journal.request_abort(change_id, "not tonight")
    await either.until_event(change_id, "leftover")
    reader.close()
    change = await either.until(change_id, State.OBSERVING)
    assert oid_of(either, "app.spare") == change.index_oid != before
    assert either.invalid() == []
    check_intents(change)


@pytest.mark.family(15)
async def test_kill_of_the_executor_in_mid_rebuild_ends_with_one_valid_index(either: Workshop) -> None:
    either.sql(MAKE)
    change_id = await either.approved(REINDEX)
    held = either.blocker(*OLD_SNAPSHOT)
    pid = await either.spawn(change_id)
    await phase(either, "waiting for old snapshots", change_id)
    copied = await either.until_event(change_id, "copy")
    assert next(e.detail for e in copied.events if e.action == "copy") == {"oid": oid_of(either, "app.spare_ccnew")}
    kill(pid)
    task = asyncio.create_task(reconcile(either.target, either.settings, either.journal, detach=False))
    await either.until_event(change_id, "takeover", 15)
    for _ in range(200):  # the backend ends when it notices that its client is gone
        if not either.sql("select 1 from pg_stat_activity where application_name like 'ixp:%'"):
            break
        await asyncio.sleep(0.1)
    held.close()
    await asyncio.wait_for(task, 40)
    change = await either.until(change_id, State.DONE, State.FAILED, seconds=20)
    assert either.invalid() == [], story(change)
    assert either.sql("select indisvalid from pg_index where indexrelid = 'app.spare'::regclass") == [(True,)]
    assert change.state is State.DONE, story(change)  # taken over, cleaned, queued, built
    assert "clean.intent" in actions(change)
    check_intents(change)


@pytest.mark.family(15)
async def test_a_live_rebuild_is_adopted(workshop: Workshop) -> None:
    workshop.settings = quick(lease_seconds=5)
    workshop.sql(MAKE)
    change_id = await workshop.approved(REINDEX)
    held = workshop.blocker(*OLD_SNAPSHOT)
    pid = await workshop.spawn(change_id)
    await phase(workshop, "waiting for old snapshots", change_id)
    os.kill(pid, signal.SIGSTOP)
    await workshop.spawn(change_id, resume=True)
    await workshop.until_event(change_id, "takeover", 20)
    held.close()
    change = await workshop.until(change_id, State.OBSERVING)
    os.kill(pid, signal.SIGKILL)
    assert actions(change).count("ddl.intent") == 1
    assert workshop.invalid() == []


LONG = "a_name_of_exactly_sixty_three_bytes_which_is_all_that_fits_here"
ODD = 'Größe "und" – so weiter, noch länger, bis nichts mehr hineingeht'


@pytest.mark.parametrize("name", ["spare", LONG, ODD.encode()[:63].decode(errors="ignore"), "x_ccnew", "ü" * 31])
@pytest.mark.family(15)
async def test_copies_are_known_by_the_servers_own_rule(either: Workshop, name: str) -> None:
    """Names with a number, of 63 bytes, quoted: made by the server itself, found by the rule."""
    with psycopg.connect(either.cluster.conninfo(either.dbname), autocommit=True) as conn:
        quoted = psycopg.sql.Identifier("app", name)
        conn.execute(psycopg.sql.SQL("set role {}").format(psycopg.sql.Identifier(OWNER)))
        conn.execute(psycopg.sql.SQL("create index {} on app.t (v)").format(psycopg.sql.Identifier(name)))
        held = either.blocker(*OLD_SNAPSHOT)
        conn.execute("set statement_timeout = 700")
        for _ in range(2):  # the second copy's name gets a number
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute(psycopg.sql.SQL("reindex index concurrently {}").format(quoted))
        held.close()
        conn.execute("reset statement_timeout")
        text = psycopg.sql.SQL("reindex index {}").format(quoted).as_string(conn)
    either.theirs |= {f"app.{row[0]}" for row in either.sql("select relname from pg_class where relname like '%ccnew%'")}
    plan = await _plan(either, text)
    left = {row[0] for row in either.sql(INDEXES) if not row[2]}
    assert len(left) == 2
    found = set()
    for _ in range(2):
        seen = await rebuild.look(either.monitor, plan, {"indexes": [*found]}, None)
        assert seen.leftover is not None
        found.add(seen.leftover.oid)
    assert found == left
    assert (await rebuild.look(either.monitor, plan, {"indexes": [*found]}, None)).leftover is None


async def _plan(workshop: Workshop, ddl: str) -> Any:

    return await workshop.plan(ddl)


async def begun(workshop: Workshop) -> Claim:
    """An executor that died right after its intent row."""
    workshop.sql(MAKE)
    claim = await claimed(workshop, REINDEX)
    before = await rebuild.standing(workshop.monitor, (await workshop.journal.change(claim.change_id)).plan)
    detail = {"before": before}
    await workshop.journal.advance(claim.change_id, claim.epoch, State.STARTING, State.RUNNING, "ddl.intent", detail)
    workshop.settings = quick(max_attempts=1)
    return claim


@pytest.mark.family(15)
async def test_an_index_of_a_user_that_is_called_like_a_copy_is_never_touched(workshop: Workshop) -> None:
    """`spare_ccnew` stood there before, INVALID or not: it is theirs whatever it is called."""
    with suppress(psycopg.errors.UniqueViolation):
        workshop.sql("create unique index concurrently spare_ccnew on app.t (v)")
    workshop.sql(f"set role {OWNER}; create index spare_ccold on app.t (v)")
    workshop.theirs.add("app.spare_ccnew")
    claim = await begun(workshop)
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == ["app.spare_ccnew"]
    assert {"spare_ccnew", "spare_ccold", "spare"} <= set(workshop.indexes())


@pytest.mark.family(15)
async def test_a_copy_of_somebody_elses_later_rebuild_is_not_ours(workshop: Workshop) -> None:
    workshop.theirs.add("app.spare_ccnew")
    claim = await begun(workshop)
    await workshop.journal.append(claim.change_id, claim.epoch, "copy", {"oid": 1})
    held = workshop.blocker(*OLD_SNAPSHOT)
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute("set statement_timeout = 500")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("reindex index concurrently app.spare")
    held.close()
    change = await succeed(workshop, claim)
    assert change.state is State.FAILED, story(change)
    assert workshop.invalid() == ["app.spare_ccnew"]


@pytest.mark.family(15)
async def test_a_rebuild_that_had_ended_is_verified_by_its_successor(workshop: Workshop) -> None:
    workshop.sql(MAKE)
    claim = await claimed(workshop, REINDEX)
    await walk(workshop, claim, RUNNING)
    workshop.sql("reindex index concurrently app.spare")
    change = await succeed(workshop, claim)
    assert change.state is State.DONE, story(change)
    assert change.index_oid == oid_of(workshop, "app.spare")
