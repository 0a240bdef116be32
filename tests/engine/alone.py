"""A scene of one safeguard on a real server: a change is tried while there is a cause, and allowed before and after."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from indexpilot_tui.engine.changes.drive import carry_out
from indexpilot_tui.engine.changes.job import Job
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.engine.safeguards.terms import terms_of
from tests.engine.gates_room import configured, context, refusing
from tests.faults.workshop import Workshop, story
from tests.standby import Standby

CREATE = "create index on app.t (v)"
INDEXES = "select indexrelid::regclass::text, indisvalid from pg_index where indrelid > 16383 order by 1"
PATIENCE_S = 15.0


@dataclass(frozen=True)
class Place:
    """Where a scene plays. `standby`: of the workshop's server, where the scene asks for one."""

    workshop: Workshop
    standby: Standby | None = None

    @property
    def the_standby(self) -> Standby:
        assert self.standby is not None
        return self.standby


Cause = Callable[[Place], AbstractContextManager[object]]


@dataclass(frozen=True)
class Tried:
    """`furnish` is SQL that is run before the change is planned, `clear` after everything; `configured` says what the settings
    are, before, during and after alike: only the cause comes and goes."""

    status: Status
    cause: Cause
    configured: Callable[[Place], dict[str, Any]]
    ddl: str = CREATE
    furnish: tuple[str, ...] = ()
    clear: str = ""
    followed: bool = False  # on a server with a standby, with the control schema on another


TRIED: dict[str, Tried] = {}  # by the guard of the verdict


def tried(guard: str, status: Status, settings: dict[str, Any] | Callable[[Place], dict[str, Any]], **more: Any) -> Any:
    """Register the cause that is decorated, a context manager, as the scene of a guard."""

    def keep(made: Cause) -> Cause:
        values = settings if callable(settings) else lambda _: settings
        assert guard not in TRIED, guard
        TRIED[guard] = Tried(status, made, values, **more)
        return made

    return keep


async def play(place: Place, guard: str, scene: Tried) -> None:
    """Everything passes; the change is tried while there is a cause, and this guard alone keeps it from being carried out;
    everything passes again."""
    admin = place.workshop.admin()
    for statement in scene.furnish:
        admin.execute(statement.encode())
    try:
        await _play(place.workshop, place, guard, scene)
    finally:
        if scene.clear:
            admin.execute(scene.clear.encode())


async def _play(workshop: Workshop, place: Place, guard: str, scene: Tried) -> None:
    terms = configured(await context(workshop), **scene.configured(place))
    change_id = await workshop.approved(scene.ddl, terms_of(terms.target, terms.settings))
    change = await workshop.journal.change(change_id)
    ctx = configured(await context(workshop, change.plan, change=change), **scene.configured(place))
    standing = workshop.sql(INDEXES)
    await _allowed(ctx)
    with scene.cause(place):
        await carry_out(Job(target=ctx.target, settings=ctx.settings, change_id=change_id))
        change = await workshop.journal.change(change_id)
    said = {v.guard: v.status for v in change.verdicts if not v.allows}
    assert said == {guard: scene.status}, story(change)
    assert change.events[-1].action == "apply.refused", story(change)
    assert change.events[-1].detail["outcome"].startswith(f"{guard} {scene.status.value}: ")
    assert change.state is State.APPROVED
    assert workshop.sql(INDEXES) == standing
    await _allowed(ctx)


async def _allowed(ctx: GateContext) -> None:
    """Wait until nothing refuses: counters of sessions that have ended, and a standby that was away, come a little later."""
    end = time.monotonic() + PATIENCE_S
    while refused := await refusing(replace(ctx, now=await database_now(ctx.session), memory=Memory())):
        assert time.monotonic() < end, refused
        await asyncio.sleep(0.1)


@contextmanager
def busy(workshop: Workshop, statement: str, *, pause_s: float = 0.0) -> Iterator[None]:
    """A session that runs a statement over and over until the block ends; it has run once when the block begins."""
    stop, done = threading.Event(), threading.Event()
    failed: list[psycopg.Error] = []

    def run() -> None:
        try:
            with psycopg.connect(
                workshop.cluster.conninfo(workshop.dbname, application_name="app"), autocommit=True
            ) as conn:
                while not stop.wait(pause_s):
                    conn.execute(statement.encode())
                    done.set()
        except psycopg.Error as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        until(lambda: done.is_set() or bool(failed))
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not failed, failed


@contextmanager
def waiting(workshop: Workshop, statement: str, wait: str, sessions: int = 1) -> Iterator[None]:
    """Sessions at a statement that ends only when whoever holds it up lets go. The block begins when one of them waits for
    `wait`, as pg_stat_activity names it."""
    failed: list[psycopg.Error] = []

    def run() -> None:
        try:
            workshop.sql(statement)
        except psycopg.Error as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    asked = "select count(*) from pg_stat_activity where state = 'active' and wait_event_type || ':' || wait_event = %s"
    try:
        until(lambda: bool(failed) or workshop.sql(asked, wait) == [(1,)])
        yield
    finally:
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not failed, failed


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
