"""Family 2: whoever waits for a lock on the table with a snapshot kills the build in its last phase, by deadlock, after all
the work. Seen as what it is, cleaned up, tried again, and the rival named."""

from __future__ import annotations

import asyncio

import pytest

from indexpilot_tui.engine.changes.executor import LOCK_CLASS
from tests.faults.scenes import CREATE, END, WRITER, Rival, building
from tests.faults.workshop import Workshop, actions, check_intents, quick, story

DEADLOCK = "300ms"  # the server looks after so long whether nobody can go on; 1 s by default
RIVALS = {
    "a second build": "create index concurrently theirs on app.t (w)",
    "reindex": "reindex index concurrently app.spare",
    "analyze": "analyze app.t",
    "alter table": "alter table app.t add column extra int",
    "plain create index": "create index theirs on app.t (w)",
    "plain drop index": "drop index app.spare",
    "create trigger": "create trigger theirs before insert on app.t for each row execute function suppress_redundant_updates_trigger()",
    "foreign key": "alter table app.other add constraint theirs foreign key (id) references app.t (id) not valid",
    "comment": "comment on table app.t is 'theirs'",
    "lock table": "begin; set transaction isolation level repeatable read; select 1 from app.other; lock table app.t in share mode",
    "advisory lock": "",  # on our own key
}  # fmt: skip


def said_by(kind: str, workshop: Workshop) -> tuple[str, ...]:
    if kind == "advisory lock":
        key = int(str(workshop.sql("select 'app.t'::regclass::oid::int8 - 2147483648")[0][0]))
        return (f"select pg_advisory_lock({LOCK_CLASS}, {key}), pg_advisory_unlock_all()",)
    return tuple(RIVALS[kind].removeprefix("begin; ").split("; "))


@pytest.mark.family(2)
@pytest.mark.parametrize("kind", list(RIVALS))
async def test_a_rival_costs_an_attempt_not_a_leftover(workshop: Workshop, kind: str) -> None:
    """With the guard that gives way out of the way: the deadlock is the server's own."""
    workshop.settings = quick(yield_after_seconds=10, yield_access_exclusive_after_seconds=10, max_attempts=5)
    workshop.sql(f"alter database {workshop.dbname} set deadlock_timeout = '{DEADLOCK}'")
    workshop.sql("set role w_owner; create index spare on app.t (w)")
    change_id, _, held = await building(workshop, CREATE, *WRITER)
    statements = said_by(kind, workshop)
    rival = Rival(workshop, *statements)
    await asyncio.sleep(0.8)  # longer than the deadlock check: the build will be the victim
    held.close()
    await rival.done()
    assert rival.error is None, rival.error
    change = await workshop.until(change_id, *END, seconds=40)
    requeued = [e for e in change.events if e.action == "requeued"]
    assert requeued, story(change)
    why = str(requeued[0].detail["why"])
    assert "40P01" in why, story(change)
    assert statements[-1].split(" ")[0] in why  # who it was
    assert "clean.intent" in actions(change)
    assert workshop.invalid() == []
    check_intents(change)


@pytest.mark.family(2)
async def test_a_deadlock_that_only_the_server_saw_is_told_as_that(workshop: Workshop) -> None:
    """A rival that came and went between two looks: the build is lost all the same, and the reason is not invented."""
    workshop.settings = quick(poll_seconds=2.0, max_attempts=5, yield_after_seconds=10)
    workshop.sql(f"alter database {workshop.dbname} set deadlock_timeout = '{DEADLOCK}'")
    change_id, _, held = await building(workshop, CREATE, *WRITER)
    rival = Rival(workshop, "analyze app.t")
    await asyncio.sleep(0.5)
    held.close()
    await rival.done()
    change = await workshop.until(change_id, *END, seconds=40)
    requeued = next(e for e in change.events if e.action == "requeued")
    assert "40P01" in str(requeued.detail["why"]), story(change)
