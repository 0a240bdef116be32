"""Family 19: the control schema is gone, read-only or locked; the log or its copies cannot be written. Nothing is begun then,
and what was begun is seen to its end when the log is back, with no intent forgotten."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import IndexPilotError, ServerError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults import oracle
from tests.faults.hooked import Hook
from tests.faults.scenes import CREATE, END, OLD_SNAPSHOT, building, ended, nobody_builds, to_the_end, until
from tests.faults.workshop import OPERATOR, Workshop, actions, check_intents, kill, story

NO_SESSION_KEEPS_IT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'indexpilot-control'"


@dataclass(frozen=True)
class Trouble:
    """What an administrator, or somebody's script, does to the control schema, and how it is undone. `says` and `remedy`:
    what the operator reads."""

    does: str
    undone: str
    says: str
    remedy: str
    lock: bool = False  # held by a transaction

    def on(self, workshop: Workshop) -> psycopg.Connection[tuple[object, ...]] | None:
        if self.lock:
            return workshop.blocker(self.does)
        workshop.sql(self.does.format(db=workshop.dbname))
        return None

    def off(self, workshop: Workshop, held: psycopg.Connection[tuple[object, ...]] | None) -> None:
        if held is not None:
            held.close()
        else:
            free = workshop.cluster.conninfo(workshop.dbname, options="-c default_transaction_read_only=off")
            with psycopg.connect(free, autocommit=True) as conn:
                conn.execute(self.undone.format(db=workshop.dbname).encode())


TROUBLES = {
    "gone": Trouble(
        "alter schema indexpilot rename to elsewhere", "alter schema elsewhere rename to indexpilot",
        "control schema in .* is gone or incomplete|has no control schema", "setup-sql",
    ),
    "a function gone": Trouble(
        "alter function indexpilot.check_writable rename to other", "alter function indexpilot.other rename to check_writable",
        "is gone or incomplete", "setup-sql",
    ),
    "a read-only database": Trouble(
        "alter database {db} set default_transaction_read_only = on",
        "alter database {db} reset default_transaction_read_only",
        "the journal cannot be written: .* read-only transaction", "default_transaction_read_only",
    ),
    "a read-only login": Trouble(
        f"alter role {OPERATOR} in database {{db}} set default_transaction_read_only = on",
        f"alter role {OPERATOR} in database {{db}} reset default_transaction_read_only",
        "the journal cannot be written: .* read-only transaction", "default_transaction_read_only",
    ),
    "rights taken": Trouble(
        f"revoke indexpilot_operator from {OPERATOR}", f"grant indexpilot_operator to {OPERATOR}",
        "has no right to read|cannot be read by", f"GRANT indexpilot_operator TO {OPERATOR}",
    ),
    "the log locked": Trouble(
        "lock table indexpilot.mutation_log in access exclusive mode", "", "the journal cannot be read: .* lock timeout",
        "idle in transaction", lock=True,
    ),
    "the log locked for writers": Trouble(
        "lock table indexpilot.mutation_log in share mode", "", "the journal cannot be written: .* lock timeout",
        "idle in transaction", lock=True,
    ),
    "its head locked": Trouble(
        "select 1 from indexpilot.chain_head for update", "", "the journal cannot be written: .* lock timeout",
        "idle in transaction", lock=True,
    ),
}  # fmt: skip


@asynccontextmanager
async def console(workshop: Workshop) -> AsyncIterator[Engine]:
    engine = await Engine.open(workshop.target, workshop.settings, operate=True)
    try:
        yield engine
    finally:
        await engine.close()


async def standing(workshop: Workshop, hook: Hook) -> None:
    for _ in range(300):
        if hook.here:
            return
        await asyncio.sleep(0.03)
    raise AssertionError(f"the executor never came to {hook}")


def book_of(workshop: Workshop, change_id: int) -> Book:
    """The local copy, without a line of ours in it."""
    return Book(next(_books().glob(f"*-{workshop.dbname}-{change_id}.jsonl")))


def _books() -> Path:
    import platformdirs

    return platformdirs.user_state_path("indexpilot") / "changes"


# -- before anything is built -------------------------------------------------------------------------------------------


@pytest.mark.family(19)
@pytest.mark.parametrize(
    ("what", "opened"),
    [
        (what, when)
        for what, trouble in TROUBLES.items()
        for when in ("before", "after")
        if not trouble.lock or when == "before"
    ],
)
async def test_nothing_starts_and_one_message_says_why(workshop: Workshop, what: str, opened: str) -> None:
    """Whether the console was opened after it happened, or has a session from before."""
    trouble = TROUBLES[what]
    change_id = await workshop.approved(CREATE)
    held = None
    if opened == "after":
        held = trouble.on(workshop)
    async with console(workshop) as engine:
        if opened == "before":
            held = trouble.on(workshop)
        began = time.monotonic()
        with pytest.raises(IndexPilotError, match=trouble.says) as caught:
            await engine.apply(change_id)
        assert time.monotonic() - began < 6
        assert trouble.remedy in str(caught.value), caught.value
    trouble.off(workshop, held)
    assert (await workshop.journal.change(change_id)).state is State.APPROVED
    assert oracle.deeds(workshop) == []


@pytest.mark.family(19)
async def test_it_starts_once_the_log_can_be_written_again(workshop: Workshop) -> None:
    change_id = await workshop.approved(CREATE)
    trouble = TROUBLES["a read-only database"]
    async with console(workshop) as engine:
        trouble.on(workshop)
        with pytest.raises(ServerError, match="did not start"):
            await engine.apply(change_id)
        trouble.off(workshop, None)
        await engine.apply(change_id)
    await workshop.until(change_id, *END)


@pytest.mark.family(19)
async def test_a_control_schema_dropped_after_the_approval(workshop: Workshop) -> None:
    """For good, and with it whatever was approved: the schema that is made anew knows no change."""
    change_id = await workshop.approved(CREATE)
    async with console(workshop) as engine:
        workshop.sql("drop schema indexpilot cascade")
        with pytest.raises(IndexPilotError, match="gone or incomplete"):
            await engine.apply(change_id)
    with pytest.raises(ServerError, match="has no control schema"):
        await workshop.spawn(change_id)
    assert workshop.indexes() == ["other_pkey", "t_pkey"]
    assert oracle.deeds(workshop) == []
    workshop.not_asked = "the control schema was dropped, and with it what the oracle reads"


# -- between the gates and the DDL ---------------------------------------------------------------------------------------


@pytest.mark.family(19)
@pytest.mark.parametrize("what", ["gone", "rights taken", "the log locked for writers"])
async def test_lost_right_before_the_claim(workshop: Workshop, what: str, tmp_path: Path) -> None:
    trouble = TROUBLES[what]
    change_id = await workshop.approved(CREATE)
    hook = Hook(at="claimed", when="before", flag=str(tmp_path / "claim"))
    pid = await workshop.spawn(change_id, hook=hook)
    await standing(workshop, hook)
    held = trouble.on(workshop)
    hook.release()
    await until(
        lambda: any(x["action"] == "apply.refused" for x in book_of(workshop, change_id).lines()), 8, "apply.refused"
    )
    trouble.off(workshop, held)
    await ended(pid)
    change = await workshop.journal.change(change_id)
    assert change.state is State.APPROVED, story(change)
    assert "could not be claimed" in str([e.detail for e in change.events if e.action == "apply.refused"]), story(change)
    assert oracle.deeds(workshop) == []


@pytest.mark.family(19)
@pytest.mark.parametrize("what", ["gone", "rights taken", "a read-only login"])
async def test_lost_right_before_the_intent(workshop: Workshop, what: str, tmp_path: Path) -> None:
    """Claimed, and no intent can be written: nothing is sent, until it can."""
    trouble = TROUBLES[what]
    change_id = await workshop.approved(CREATE)
    hook = Hook(at="ddl.intent", when="before", flag=str(tmp_path / "intent"))
    await workshop.spawn(change_id, hook=hook)
    await standing(workshop, hook)
    held = trouble.on(workshop)
    if what == "a read-only login":
        workshop.sql(NO_SESSION_KEEPS_IT)
    hook.release()
    await until(lambda: any(x["action"] == "away" for x in book_of(workshop, change_id).lines()), 9, "away")
    assert oracle.deeds(workshop) == []
    assert "t_v_idx" not in workshop.indexes()
    trouble.off(workshop, held)
    change = await workshop.until(change_id, *END)
    check_intents(change)
    assert len(oracle.deeds(workshop)) == 1, oracle.deeds(workshop)


@pytest.mark.family(19)
async def test_killed_while_no_intent_could_be_written(workshop: Workshop, tmp_path: Path) -> None:
    trouble = TROUBLES["gone"]
    change_id = await workshop.approved(CREATE)
    hook = Hook(at="ddl.intent", when="before", flag=str(tmp_path / "intent"))
    pid = await workshop.spawn(change_id, hook=hook)
    await standing(workshop, hook)
    trouble.on(workshop)
    hook.release()
    await until(lambda: any(x["action"] == "away" for x in book_of(workshop, change_id).lines()), 9, "away")
    kill(pid)
    trouble.off(workshop, None)
    workshop.sql("update indexpilot.changes set lease_until = clock_timestamp()")  # it is not waited for here
    await workshop.spawn(change_id, resume=True)
    change = await workshop.until(change_id, State.FAILED)
    assert "t_v_idx" not in workshop.indexes()
    assert oracle.deeds(workshop) == []
    assert "ddl.intent" not in actions(change)


# -- in mid-build --------------------------------------------------------------------------------------------------------


@pytest.mark.family(19)
@pytest.mark.parametrize("what", ["gone", "rights taken", "a read-only login", "its changes locked"])
async def test_lost_in_mid_build(workshop: Workshop, what: str) -> None:
    """A lease that cannot be renewed ends the build. Its leftover stays as long as no intent can be written, and goes then."""
    locked = Trouble("lock table indexpilot.changes in access exclusive mode", "", "", "", lock=True)
    trouble = TROUBLES.get(what, locked)
    change_id, _, snapshot = await building(workshop, CREATE, *OLD_SNAPSHOT)
    held = trouble.on(workshop)
    workshop.sql(NO_SESSION_KEEPS_IT)
    await until(lambda: bool(workshop.invalid()) and not _waits_for_snapshot(workshop), 12, "the end of the build")
    snapshot.close()
    await asyncio.sleep(0.3)
    assert [deed.sql for deed in oracle.deeds(workshop)] == ["CREATE INDEX CONCURRENTLY t_v_idx ON app.t USING btree (v)"]
    assert workshop.invalid() == ["app.t_v_idx"]
    trouble.off(workshop, held)
    change = await to_the_end(workshop, change_id)
    assert change.state is State.FAILED, story(change)
    assert "the control schema could not be reached" in change.outcome
    assert workshop.invalid() == []
    check_intents(change)
    told = [e for e in change.events if e.action == "cancel.intent"]
    assert told[0].detail["late"] is True, story(change)  # not forgotten, and honest about when


def _waits_for_snapshot(workshop: Workshop) -> bool:
    return bool(
        workshop.sql(
            "select 1 from pg_stat_progress_create_index where datname = current_database() union all"
            " select 1 from pg_stat_activity where application_name like 'ixp:%' and datname = current_database()"
            " and state = 'active'"
        )
    )


@pytest.mark.family(19)
@pytest.mark.parametrize("what", ["the log locked", "its head locked"])
async def test_a_log_locked_in_mid_build_holds_up_the_log_only(workshop: Workshop, what: str) -> None:
    """The lease is renewed elsewhere, so the build goes on; what it had to say follows, in order."""
    trouble = TROUBLES[what]
    change_id, _, snapshot = await building(workshop, CREATE, *OLD_SNAPSHOT)
    held = trouble.on(workshop)
    snapshot.close()
    valid = "select 1 from pg_index where indexrelid = 'app.t_v_idx'::regclass and indisvalid"
    await until(lambda: bool(workshop.sql(valid)), 10, "a valid index")
    await asyncio.sleep(1.5)
    trouble.off(workshop, held)
    change = await workshop.until(change_id, *END)
    check_intents(change)
    assert actions(change).index("ddl.outcome") < actions(change).index("verify.intent"), story(change)
    assert "cancel.intent" not in actions(change)


@pytest.mark.family(19)
async def test_the_executor_dies_while_the_control_schema_is_away(workshop: Workshop) -> None:
    trouble = TROUBLES["gone"]
    change_id, pid, snapshot = await building(workshop, CREATE, *OLD_SNAPSHOT)
    trouble.on(workshop)
    kill(pid)
    await nobody_builds(workshop)
    snapshot.close()
    assert workshop.invalid() == ["app.t_v_idx"]
    async with console(workshop) as engine:  # says that it cannot look after anything
        with pytest.raises(IndexPilotError, match="has no control schema"):
            await engine.change(change_id)
    trouble.off(workshop, None)
    workshop.sql("update indexpilot.changes set lease_until = clock_timestamp()")  # it is not waited for here
    await workshop.spawn(change_id, resume=True)
    change = await workshop.until(change_id, State.FAILED)
    assert workshop.invalid() == []
    check_intents(change)


# -- the head outside ----------------------------------------------------------------------------------------------------


def anchored(workshop: Workshop, **anchor: object) -> None:
    data = plain(workshop.settings)
    data["control"]["anchor"] |= anchor
    workshop.settings = validated(Settings, data)


@pytest.mark.family(19)
@pytest.mark.parametrize("how", ["command fails", "command hangs", "no such command", "file in a file"])
async def test_no_start_without_the_head_kept_outside(workshop: Workshop, how: str, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    place: dict[str, object] = {
        "command fails": {"command": ["false"]},
        "command hangs": {"command": ["sleep", "30"], "timeout_seconds": 1},
        "no such command": {"command": ["/nonexistent"]},
        "file in a file": {"file": tmp_path / "plain" / "heads.jsonl"},
    }[how]  # type: ignore[assignment]
    anchored(workshop, required=True, **place)
    change_id = await workshop.approved(CREATE)
    pid = await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "anchor.failed")
    await ended(pid)
    change = await workshop.journal.change(change_id)
    assert change.state is State.APPROVED
    assert "cannot be kept outside" in str(change.events[-1].detail), story(change)
    assert oracle.deeds(workshop) == []


@pytest.mark.family(19)
async def test_a_head_that_cannot_be_kept_at_the_end_stands_in_the_log(workshop: Workshop, tmp_path: Path) -> None:
    """Required or not: the index is there, and what is done is not undone for it."""
    folder = tmp_path / "heads"
    folder.mkdir()
    anchored(workshop, required=True, file=folder / "heads.jsonl")
    change_id, _, held = await building(workshop, CREATE, *OLD_SNAPSHOT)
    assert json.loads((folder / "heads.jsonl").read_text())["state"] == "starting"
    (folder / "heads.jsonl").unlink()
    folder.rmdir()
    folder.touch()
    await workshop.journal.request_abort(change_id, "wrong night")
    await workshop.until_event(change_id, "clean.intent")
    held.close()
    await workshop.until(change_id, State.FAILED)
    change = await workshop.until_event(change_id, "anchor.failed", after_end=True)
    assert "was not kept outside" in str(change.events[-1].detail["why"]), story(change)
    assert workshop.invalid() == []
