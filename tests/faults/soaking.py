"""Random changes with random faults, one after the other on one database, the common oracle after each (family 27).

The same seed plays the same changes and faults at the same chosen moments; what the server makes of them is its own affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg

from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.errors import IndexPilotError, UsageError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults import oracle
from tests.faults.scenes import OLD_SNAPSHOT, WRITER, Rival
from tests.faults.workshop import OverTls, Workshop, alive, quick, story

CREATES = {
    "t": (
        "create index on app.t (v)", "create index on app.t (w)", "create index on app.t (v, id desc)",
        "create unique index on app.t (id, v)", "create index on app.t (lower(w))", "create index on app.t (w) where v < 100",
        "create index on app.t (id) include (v)", "create index on app.t using hash (w)",
        "create index on app.t using brin (id)",
        "create unique index on app.t (v)",  # there are duplicates
    ),
    "p": (
        "create index on app.p (w)", "create index on app.p (k, w)", "create unique index on app.p (id, k)",
        "create index on app.p (lower(w))", "create index on app.p (id) where k < 150",
        "create unique index on app.p (k)",  # there are duplicates
    ),
}  # fmt: skip
OWN_INDEXES = """
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = 'app.t'::regclass and i.indisvalid and not i.indisprimary order by c.relname"""
PARTS = """
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid in ('app.p_a'::regclass, 'app.p_b'::regclass, 'app.p_c'::regclass) and i.indisvalid order by c.relname"""
BACKENDS = """
select pid from pg_stat_activity where backend_type = 'client backend' and datname = current_database()
and pid <> pg_backend_pid() order by pid"""
MOST_INDEXES = 6
END_S = 90.0


def soak_settings() -> Settings:
    """No rate limit in the way, short waits."""
    data = plain(quick())
    data["rate_limiter"]["index_creation"]["max_requests"] = 10_000
    data["production_safeguards"]["write_performance"]["max_indexes_per_table"] = 50
    return validated(Settings, data)


@dataclass(frozen=True)
class Played:
    """One change: what it was, what was done to it, how it ended, and what did not hold afterwards."""

    number: int
    what: str
    fault: str
    state: str
    seconds: float
    violations: tuple[str, ...]
    stall_s: float  # the longest wait of a reader or writer because of us, so far in this workshop
    story: str = ""  # the log of a change for which something did not hold


@dataclass
class Scene:
    """What a fault is done to."""

    workshop: Workshop
    rng: random.Random
    change_id: int
    pid: int
    table: str  # t or p
    rivals: list[Rival] = field(default_factory=list)

    def backend(self, which: str, how: str = "terminate") -> None:
        self.workshop.sql(
            f"select pg_{how}_backend(pid) from pg_stat_activity where application_name like %s"
            " and usename = 'w_operator' and datname = current_database()",
            which,
        )

    def signal(self, number: signal.Signals) -> None:
        if alive(self.pid):
            os.kill(self.pid, number)


async def nothing(_: Scene) -> None:
    return


async def killed(scene: Scene) -> None:
    scene.signal(signal.SIGKILL)


async def told_to_end(scene: Scene) -> None:
    scene.signal(signal.SIGTERM)


async def asleep(scene: Scene) -> None:
    """Longer than its lease; somebody else takes over, and it wakes up."""
    scene.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(6.5)
        with contextlib.suppress(IndexPilotError):
            await reconcile(scene.workshop.target, scene.workshop.settings, scene.workshop.journal, detach=True)
        await asyncio.sleep(1)
    finally:
        scene.signal(signal.SIGCONT)


async def executor_ended(scene: Scene) -> None:
    scene.backend("ixp:%")


async def executor_cancelled(scene: Scene) -> None:
    scene.backend("ixp:%", "cancel")


async def observer_ended(scene: Scene) -> None:
    scene.backend("ixp-eye:%")


async def control_ended(scene: Scene) -> None:
    scene.backend("indexpilot-control")


async def stopped_by_a_person(scene: Scene) -> None:
    with contextlib.suppress(IndexPilotError):  # it may have ended
        await scene.workshop.journal.request_abort(scene.change_id, "not tonight")


async def a_deploy(scene: Scene) -> None:
    scene.rivals.append(
        Rival(scene.workshop, f"alter table app.{scene.table} add column if not exists extra int", name="deploy")
    )


async def an_analyze(scene: Scene) -> None:
    scene.rivals.append(Rival(scene.workshop, f"analyze app.{scene.table}", name="nightly"))


async def restarted(scene: Scene) -> None:
    """An immediate stop and a start; of an embedded server, which cannot be started again, a backend that is killed, upon
    which the server does the same to itself. The control schema is on it, too."""
    place = scene.workshop.cluster
    if isinstance(place, OverTls):
        await asyncio.to_thread(place.server.stop, "immediate")
        await asyncio.sleep(scene.rng.uniform(0.0, 2.0))
        await asyncio.to_thread(place.server.start_again)
    else:
        backends = scene.workshop.sql(BACKENDS)
        if backends:
            os.kill(int(scene.rng.choice(backends)[0]), signal.SIGKILL)
    await answers(scene.workshop)


async def answers(workshop: Workshop, seconds: float = 30.0) -> None:
    """Wait for a server that was away, and have new sessions to it."""
    end = time.monotonic() + seconds
    while True:
        try:
            await workshop.reopen()
        except (IndexPilotError, psycopg.Error):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.3)
        else:
            return


Fault = Callable[[Scene], Awaitable[None]]
FAULTS: dict[str, Fault] = {
    "none": nothing, "executor: SIGKILL": killed, "executor: SIGTERM": told_to_end, "executor: SIGSTOP 7.5 s": asleep,
    "executor's session ended": executor_ended, "executor's statement cancelled": executor_cancelled,
    "observer's session ended": observer_ended, "control session ended": control_ended,
    "abort by a person": stopped_by_a_person, "ALTER TABLE queues": a_deploy, "ANALYZE queues": an_analyze,
    "server: immediate stop and start": restarted,
}  # fmt: skip
HOLDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "": {"t": (), "p": ()},
    "an old snapshot": {"t": OLD_SNAPSHOT, "p": OLD_SNAPSHOT},
    "a writer": {"t": WRITER, "p": ("update app.p set w = w where k = 150 and id = 150",)},
}


async def _choose(workshop: Workshop, rng: random.Random) -> tuple[str, int, str]:
    """The next change, approved or covered by its parent's approval: (what, id, table). One that is refused at its proposal
    (the same index exists, say) is no change."""
    while True:
        with contextlib.suppress(UsageError):
            return await _proposed(workshop, rng)


async def _proposed(workshop: Workshop, rng: random.Random) -> tuple[str, int, str]:
    table = rng.choice(["t", "t", "p"])
    kind = rng.choice(["create", "create", "create", "drop", "reindex", "rollback"])
    if kind == "rollback":
        for change in await workshop.journal.changes(20):
            if change.plan.table == table and _can_go_back(change):
                with contextlib.suppress(IndexPilotError):
                    child = await propose_rollback(workshop.monitor, workshop.journal, change, "soak")
                    return f"rollback of a {change.kind} on app.{table}", child, table
        kind = "create"
    indexes = [str(row[0]) for row in workshop.sql(OWN_INDEXES if table == "t" else PARTS)]
    if kind == "create" and len(indexes) >= MOST_INDEXES and table == "t":
        kind = "drop"
    ddl = rng.choice(CREATES[table])
    if indexes and kind == "drop" and table == "t":  # that of a partitioned table only goes back with its change
        ddl = f"drop index app.{rng.choice(indexes)}"
    elif indexes and kind != "create":
        ddl = f"reindex index app.{rng.choice(indexes)}"
    return ddl, await workshop.approved(ddl), table


def _can_go_back(change: Change) -> bool:
    return change.state is State.DONE and change.kind in ("create", "drop") and change.parent_id is None


def _decision(change: Change, rng: random.Random) -> str:
    """What a person says who was called."""
    if change.kind == "drop" and not change.plan.steps:
        return rng.choice(["finish", "repair"])
    return rng.choice(["finish", State.CLEANING.value]) if change.plan.steps else State.CLEANING.value


async def _to_the_end(workshop: Workshop, rng: random.Random, change_id: int, pid: int) -> Change:
    """What the next console does at its start, until nothing is left to do. A person settles what needs one."""
    end = time.monotonic() + END_S
    started = 0
    while time.monotonic() < end:
        change = await workshop.journal.change(change_id)
        if change.ended or (change.state in (State.APPROVED, State.PROPOSED) and started > 1 and not alive(pid)):
            return change
        if change.state is State.NEEDS_OPERATOR:
            await workshop.approver.resolve(change_id, _decision(change, rng), "soak")
        if not alive(pid):
            if change.state in (State.APPROVED, State.PROPOSED):
                started += 1
                pid = await workshop.spawn(change_id)
            else:
                await reconcile(workshop.target, workshop.settings, workshop.journal, detach=False)
        await asyncio.sleep(0.3)
    raise AssertionError(f"{change.state} and nothing more happens\n{story(change)}")


async def play(
    workshop: Workshop, rng: random.Random, number: int, *, fault: str | None = None, ddl: str | None = None
) -> Played:
    """One change and one fault, at a moment between its start and the end of what it has to wait for. `fault` and `ddl`
    choose these instead of chance."""
    start = time.monotonic()
    if ddl is None:
        what, change_id, table = await _choose(workshop, rng)
    else:
        what, change_id = ddl, await workshop.approved(ddl)
        table = (await workshop.journal.change(change_id)).plan.table
    fault, holder = fault or rng.choice(list(FAULTS)), rng.choice(list(HOLDERS))
    delay, length = rng.uniform(0.0, 1.5), rng.uniform(0.2, 2.0)
    statements = HOLDERS[holder][table if table == "t" else "p"]
    held = workshop.blocker(*statements) if statements else None
    pid = await workshop.spawn(change_id)
    scene = Scene(workshop, rng, change_id, pid, table)
    await asyncio.sleep(delay)
    await FAULTS[fault](scene)
    await asyncio.sleep(length)
    if held is not None:
        held.close()
    violations: list[str] = []
    try:
        state = (await _to_the_end(workshop, rng, change_id, pid)).state.value
    except AssertionError as exc:
        state, violations = "stuck", [str(exc)]
    for rival in scene.rivals:
        await rival.done()
    violations += await oracle.ask(workshop)
    stall = workshop.traffic_of.ours if workshop.traffic_of is not None else 0.0
    told = f"{fault}{f', while {holder} holds it up' if holder else ''}"
    log = story(await workshop.journal.change(change_id)) if violations else ""
    return Played(number, what, told, state, time.monotonic() - start, tuple(violations), stall, log)
