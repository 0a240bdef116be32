"""Scenes that several fault tests play: a build that is held in one of its waits, rivals, processes that end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults.workshop import Workshop, alive, story

OLD_SNAPSHOT = ("set transaction isolation level repeatable read", "select 1 from app.other")
WRITER = ("update app.t set v = v where id = 1",)
READER = ("select 1 from app.t",)
BEFORE_BUILD, LAST_WAIT = "waiting for writers before build", "waiting for old snapshots"
CREATE, UNIQUE = "create index on app.t (v)", "create unique index on app.t (id, v)"


async def phase(workshop: Workshop, wanted: str, change_id: int, seconds: float = 10.0) -> None:
    """Wait until a build stands in this phase."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if workshop.sql(
            "select 1 from pg_stat_progress_create_index where phase = %s and datname = current_database()", wanted
        ):
            return
        await asyncio.sleep(0.03)
    raise AssertionError(f"never {wanted}\n{story(await workshop.journal.change(change_id))}")


async def building(workshop: Workshop, ddl: str, *blocker: str) -> tuple[int, int, psycopg.Connection[tuple[Any, ...]]]:
    """A change whose build is held in a wait by a transaction that opened after its gates: (change, executor, blocker)."""
    change_id = await workshop.approved(ddl)
    held = workshop.blocker(*blocker)
    pid = await workshop.spawn(change_id)
    await workshop.until_event(change_id, "ddl.intent")
    await phase(workshop, LAST_WAIT if blocker == OLD_SNAPSHOT else BEFORE_BUILD, change_id)
    return change_id, pid, held


async def to_the_end(workshop: Workshop, change_id: int, *also: State, seconds: float = 60.0) -> Change:
    """Wait for an end state, for a person being called, or for one of `also`, with a fresh connection at each look: ours
    may have died with the server. The workshop has new sessions then."""
    end = time.monotonic() + seconds
    words = "the server did not answer"
    while time.monotonic() < end:
        try:
            await workshop.reopen()
            change = await workshop.journal.change(change_id)
        except (IndexPilotError, psycopg.Error) as exc:
            words = str(exc)
        else:
            if change.ended or change.state in (State.NEEDS_OPERATOR, *also):
                return change
            words = f"{change.state}\n{story(change)}"
        await asyncio.sleep(0.3)
    raise AssertionError(f"not in {seconds:g} s: {words}")


async def ended(pid: int, seconds: float = 15.0) -> None:
    """Wait for the end of a process."""
    end = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} is still there after {seconds:g} s"
        await asyncio.sleep(0.05)


async def nobody_builds(workshop: Workshop, seconds: float = 15.0) -> None:
    """Wait until no backend of an executor's is left in this database."""
    end = time.monotonic() + seconds
    while workshop.sql(
        "select 1 from pg_stat_activity where application_name like 'ixp:%' and datname = current_database()"
    ):
        assert time.monotonic() < end, "a backend of an executor's is still there"
        await asyncio.sleep(0.1)


async def refused(workshop: Workshop, change_id: int, seconds: float = 20.0) -> Change:
    """Wait until the gates have refused the start of a change, or it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        change = await workshop.journal.change(change_id)
        if change.ended or any(e.action == "apply.refused" for e in change.events):
            return change
        await asyncio.sleep(0.1)
    raise AssertionError(f"neither refused nor ended\n{story(change)}")


class Rival:
    """Somebody else's statement, in a thread of its own; several are one transaction. `error`: what the server said."""

    def __init__(self, workshop: Workshop, *statements: str, name: str = "rival") -> None:
        self.conninfo = workshop.cluster.conninfo(workshop.dbname, application_name=name)
        self.statements = statements
        self.error: psycopg.Error | None = None
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        start = time.monotonic()
        try:
            with psycopg.connect(self.conninfo, autocommit=len(self.statements) == 1) as conn:
                for statement in self.statements:
                    conn.execute(statement.encode())
        except psycopg.Error as exc:
            self.error = exc
        self.seconds = time.monotonic() - start

    async def done(self, seconds: float = 20.0) -> None:
        await asyncio.to_thread(self.thread.join, seconds)
        assert not self.thread.is_alive(), f"the rival still waits: {self.statements}"


def settings_with(workshop: Workshop, **sections: dict[str, Any]) -> None:
    """Other values of production_safeguards for this workshop, section by section."""
    data: dict[str, Any] = plain(workshop.settings)
    for section, values in sections.items():
        data["production_safeguards"][section] |= values
    workshop.settings = validated(Settings, data)


async def until(condition: Callable[[], bool], seconds: float = 10.0, what: str = "what was waited for") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not in {seconds:g} s"
        await asyncio.sleep(0.05)


END = (State.OBSERVING, State.DONE)
