"""What the steps of carrying a change out share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.changes.catalog import Backend
from indexpilot_tui.engine.changes.estimate import estimator
from indexpilot_tui.engine.changes.executor import Door
from indexpilot_tui.engine.changes.hold import RECONNECT_S, Hold
from indexpilot_tui.engine.changes.plan_shapes import read_shapes
from indexpilot_tui.engine.changes.planning_parts import step_plan
from indexpilot_tui.engine.model.change import Change, Plan, State
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.errors import ConnectError, IndexPilotError
from indexpilot_tui.settings.model import Settings, Target


@dataclass(frozen=True, slots=True)
class Why:
    """Why the last run of the DDL ended without the index as planned. `retry`: it may be tried again. `held`: nothing
    failed, a safeguard does not let it go on; what was made so far is no leftover."""

    sentence: str = ""
    retry: bool = False
    held: bool = False


@dataclass(slots=True)
class Work:
    """One change in the hands of this process. `timeline` is the cluster's at the claim; `attempts` counts claims."""

    target: Target
    settings: Settings
    hold: Hold
    change: Change
    observer: Session
    parent: Change | None = None  # what a rollback takes back
    door: Door | None = None
    task: asyncio.Task[None] | None = None
    backend: Backend | None = None
    index_oid: int | None = None
    timeline: int | None = None
    attempts: int = 0
    began: bool = False  # DDL of this change was sent since the last claim, by us or by a predecessor
    foreign: bool = False  # the server said that the name was taken: what stands there is not ours
    requeued: bool = False
    attempted: bool = False  # this process has asked the gates for it before
    resumed: bool = False
    repair: bool = False  # a second person decided to have the half-dropped index back
    before: dict[str, Any] = field(default_factory=dict)  # of a rebuild: what stood when it was sent
    copy_oid: int | None = None  # of a rebuild: the new copy, as the progress view showed it
    part: int | None = None  # the step of a change on a partitioned table that is being carried out
    give_up: bool = False  # all that such a change has made is to be removed
    waiting_for: str = ""  # what the log says that we wait for
    leave: bool = False  # stop here; the state is one in which others may act
    why: Why = field(default_factory=Why)
    memory: Memory = field(default_factory=Memory)  # of the gates

    @property
    def plan(self) -> Plan:
        return self.change.plan

    @property
    def rollback(self) -> bool:
        return self.parent is not None

    @property
    def rebuilding(self) -> bool:
        """What is sent is a REINDEX."""
        return self.plan.kind == "reindex" or self.repair

    async def shapes(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Fingerprints of the plans that these statements have now. A rebuild changes none, a rollback is not judged."""
        if self.settings.verification.plans == "off":
            return {"plans": {}, "why": "switched off (verification.plans)"}
        if self.rebuilding or self.rollback:
            return {"plans": {}, "why": "a rebuild changes no plan" if self.rebuilding else "a rollback is not judged"}
        return await read_shapes(self.target, self.settings, self.plan, rows)

    def index_seen(self, oid: int) -> None:
        """The progress view shows the index that our statement is making."""
        if self.rebuilding:  # the view shows the old index, too: while its copy is made, and while it is marked dead
            if oid not in (self.copy_oid, self.plan.index_oid):
                self.copy_oid = oid
                self.hold.later("copy", {"oid": oid})
        elif oid != self.index_oid and self.part is not None:
            self.index_oid = oid
            self.hold.later_part(self.part, oid)
        elif oid != self.index_oid:
            self.index_oid = oid
            self.hold.later_index(oid, False)

    @property
    def state(self) -> State:
        return self.hold.state

    @property
    def more_attempts(self) -> bool:
        return self.attempts < self.settings.production_safeguards.observer.max_attempts

    async def eye(self) -> Session:
        """The observing session, opened again when it was lost; waits up to RECONNECT_S for a server that is away."""
        end = time.monotonic() + RECONNECT_S
        while self.observer.closed:
            try:
                self.observer = await connect(
                    self.target, Purpose.OBSERVER, self.settings, application_name=f"ixp-eye:{self.change.id}"
                )
            except ConnectError as exc:
                self.waits_for(exc)
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(2)
        self.waiting_for = ""
        return self.observer

    def waits_for(self, exc: IndexPilotError) -> None:
        """Say once in the log what keeps this process from going on, and what ends that (a rotated password, say)."""
        if exc.message != self.waiting_for:
            self.waiting_for = exc.message
            self.hold.later(
                "waiting", {"for": exc.message, "field": exc.field, "remedy": exc.remedy, "at_most_s": RECONNECT_S}
            )

    async def gate_context(self, *, claimed: bool, position: int | None = None) -> GateContext:
        """For asking the gates now; with `position`, about that step of a change on a partitioned table."""
        eye = await self.eye()
        journal = await self.hold.journal()
        self.change = await journal.change(self.change.id)
        plan = self.plan if position is None else step_plan(self.plan, position)
        return GateContext(
            target=self.target,
            settings=self.settings,
            session=eye,
            now=await database_now(eye),
            journal=journal,
            plan=plan,
            change=self.change,
            parent=self.parent,
            executor=self.door.session if self.door is not None and not self.door.session.closed else None,
            rollback=self.rollback,
            claimed=claimed,
            previous=self.change.verdicts,
            estimate=estimator(eye, plan, lambda: journal.builds(plan.system_identifier, plan.database)),
            memory=self.memory,
        )

    async def close_door(self) -> None:
        """Close the executor's session, and with it the advisory lock. Never called while a statement of ours is meant
        to go on: closing cancels it."""
        if self.door is not None:
            await self.door.close()
            self.door = None
