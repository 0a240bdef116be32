"""The refresh loop: asks the engine at each interval and hands out immutable snapshots. No widget is known here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.tui.gates import guard_label

if TYPE_CHECKING:
    from indexpilot_tui.engine.journal.records import Bypass
    from indexpilot_tui.engine.model.change import Change, State
    from indexpilot_tui.engine.observe.model import Observation
    from indexpilot_tui.tui.clock import Clock
    from indexpilot_tui.tui.port import ConsoleEngine


PATIENCE_S = 3.0  # how long a refresh waits for gates and changes before it shows what there is
GATES_OLD_S = 60.0  # what a gate said longer ago is not known any more
UNREAD = "no answer from the target"


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the events pane: something that changed while this console was looking."""

    at: datetime
    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What this console sent in the last minute, all its sessions together: statements, and ms of round trips."""

    statements: int
    ms: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the first screen shows. `good_at` is our monotonic time of the last good observation (None: none yet),
    `error` why the newest one failed; `throttle_error` and `changes_error` likewise for their parts, `throttle_at` when the
    gates were last asked."""

    observation: Observation | None = None
    good_at: float | None = None
    error: str = ""
    throttle: tuple[Verdict, ...] | None = None
    throttle_error: str = ""
    throttle_at: float | None = None
    bypass: Bypass | None = None
    changes: tuple[Change, ...] = ()
    changes_error: str = ""
    notes: tuple[Note, ...] = ()
    spent: Spent = Spent(0, 0.0)

    @property
    def gate_open(self) -> bool | None:
        """True only when every target-wide gate passes; None while they are not read (which is not open)."""
        if self.throttle is None or self.throttle_error:
            return None
        return all(verdict.allows for verdict in self.throttle)

    def aged(self, mono: float, stale_after_s: float) -> Snapshot:
        """As it is to be shown at `mono`: once it is stale, what the gates said is not known any more."""
        stale = self.good_at is not None and mono - self.good_at > stale_after_s
        stale = stale or (self.throttle_at is not None and mono - self.throttle_at > GATES_OLD_S)
        return replace(self, throttle_error=UNREAD) if stale and not self.throttle_error else self

    @property
    def first_obstacle(self) -> Verdict | None:
        """What to name first: a block before an unknown before a wait."""
        order = {Status.BLOCK: 0, Status.UNKNOWN: 1, Status.WAIT: 2}
        closed = [v for v in self.throttle or () if not v.allows]
        return min(closed, key=lambda v: order[v.status], default=None)


@dataclass(slots=True)
class Feed:
    """`run` until cancelled; `publish` is called with each new snapshot (and must not block)."""

    engine: ConsoleEngine
    clock: Clock
    publish: Callable[[Snapshot], None]
    snapshot: Snapshot = field(default_factory=Snapshot)
    _notes: deque[Note] = field(default_factory=lambda: deque(maxlen=200))
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _told: set[str] = field(default_factory=set)  # what is said once
    _turn: int = 0
    _hurried: bool = True
    _beside: asyncio.Task[dict[str, Any]] | None = None  # gates and changes that are being asked

    async def run(self) -> None:
        """Refresh, wait the interval, again. A slow refresh is followed by a full interval, so we never pile up."""
        try:
            while True:
                await self.once()
                self._wake.clear()
                try:
                    async with asyncio.timeout(self.engine.next_delay):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if self._beside is not None:
                self._beside.cancel()

    def hurry(self) -> None:
        """Refresh everything now: something was just done that the operator wants to see."""
        self._hurried = True
        self._wake.set()

    async def once(self) -> None:
        """One refresh of all parts; each part that fails says so and leaves the others alone."""
        before = self.snapshot
        snapshot = before
        # gates and changes take turns: together with every reading they would cost the server more than the reading
        self._turn += 1
        everything, self._hurried = self._hurried, False
        recovered = bool(before.error)
        try:
            seen = await self.engine.observe()
        except IndexPilotError as exc:
            snapshot = replace(snapshot, error=exc.message)
        else:
            good = not seen.error
            snapshot = replace(
                snapshot,
                observation=seen,
                error=seen.error,
                good_at=self.clock.mono() if good else snapshot.good_at,
            )
        if snapshot.error:
            # shown at once: the gates of a server that does not answer are not open, and asking it again takes its time
            snapshot = replace(snapshot, throttle_error=UNREAD, changes_error=UNREAD)
            self._show(before, snapshot)
            before, recovered = snapshot, False
        elif before.observation is None:
            self.publish(snapshot)  # the first data at once: the gates take a moment longer
        everything = everything or recovered
        gates = everything or (self._turn % 2 == 0 and self.engine.throttle_due)
        changes = self.engine.control_available and (everything or self._turn % 2 == 1)
        if self._beside is not None:
            self._hurried = self._hurried or everything  # as soon as what is under way has come
        elif gates or changes:
            self._beside = asyncio.create_task(self._ask(gates, changes))
        if self._beside is not None:
            # gates are many questions: where each takes a second, the reading does not wait for them
            await asyncio.wait({self._beside}, timeout=PATIENCE_S)
            if self._beside.done():
                answers, self._beside = self._beside.result(), None
                snapshot = replace(snapshot, **answers)
        self._show(before, snapshot)

    async def _ask(self, gates: bool, changes: bool) -> dict[str, Any]:
        """What the gates and the list of changes say: the fields of a snapshot."""
        answers: dict[str, Any] = {}
        if gates:
            began = self.clock.mono()
            try:
                verdicts = tuple(await self.engine.throttle())
                answers |= {"throttle": verdicts, "throttle_error": "", "throttle_at": began}
            except IndexPilotError as exc:
                answers["throttle_error"] = exc.message
        if changes:
            try:
                # with the changes, not with the gates: these are read seldom by a console that only looks
                listed, bypass = tuple(await self.engine.changes(50)), await self.engine.bypass()
                answers |= {"changes": listed, "bypass": bypass, "changes_error": ""}
            except IndexPilotError as exc:
                answers["changes_error"] = exc.message
        return answers

    def _show(self, before: Snapshot, snapshot: Snapshot) -> None:
        self._remember(before, snapshot)
        self.snapshot = replace(snapshot, notes=tuple(self._notes), spent=self._spent())
        self.publish(self.snapshot)

    def _spent(self) -> Spent:
        since = self.clock.wall() - timedelta(seconds=60)
        recent = [entry for entry in self.engine.sent if entry.at >= since]
        return Spent(len(recent), sum(entry.ms for entry in recent))

    def note(self, tone: str, text: str) -> None:
        """Add an event of our own."""
        self._notes.appendleft(Note(self.clock.wall(), tone, text))

    def _remember(self, old: Snapshot, new: Snapshot) -> None:
        for text in self.engine.notices:
            self._tell_once(f"notice {text}", "warn", text)
        if new.error and new.error != old.error:
            self.note("crit", f"reading failed: {new.error}")
        elif old.error and not new.error:
            self.note("ok", "reading works again")
        was = {v.guard: v for v in old.throttle or ()}
        for verdict in new.throttle or ():
            earlier = was.get(verdict.guard)
            if earlier is None and old.throttle is None and verdict.allows:
                continue
            if earlier is None or earlier.status is not verdict.status:
                tone = "ok" if verdict.allows else "crit" if verdict.status is Status.BLOCK else "warn"
                self.note(tone, f"{guard_label(verdict.guard)} {verdict.status.value}: {verdict.evidence}")
        if new.bypass != old.bypass:
            self.note(*_of_bypass(new.bypass))
        states: dict[int, State] = {c.id: c.state for c in old.changes}
        for change in reversed(new.changes):
            if change.id not in states and not old.changes and change.ended:
                continue
            if states.get(change.id) is not change.state:
                self.note(change_tone(change), f"#{change.id} {change.state.value.replace('_', ' ')} {change.plan.index}")
        self._remember_costs(new.observation)
        note = new.observation.hotspots.epoch_note if new.observation else ""
        if note and note != (old.observation.hotspots.epoch_note if old.observation else ""):
            self.note("warn", f"statistics: {note}")

    def _remember_costs(self, seen: Observation | None) -> None:
        """What this role may not see, with what would allow it, and what comes less often because of the budget."""
        if seen is None or seen.error:
            return
        for text in seen.refused:
            self._tell_once(text.partition(":")[0], "warn", f"not seen: {text}")
        for name, seconds in seen.cost.slower:
            budget = f"to stay within {seen.cost.budget_ms_per_min:.0f} ms a minute"
            self._tell_once(f"pace of {name}", "plain", f"{name}: every {seconds:.0f} s now, {budget}")

    def _tell_once(self, what: str, tone: str, text: str) -> None:
        """A count that changes, or a pace that wavers, is no news."""
        if what not in self._told:
            self._told.add(what)
            self.note(tone, text)


def _of_bypass(bypass: Bypass | None) -> tuple[str, str]:
    if bypass is None:
        return "ok", "the emergency bypass has ended: every gate holds again"
    return "crit", f"BYPASS of {' and '.join(sorted(bypass.scope))} by {bypass.by}: {bypass.reason}"


def change_tone(change: Change) -> str:
    """The tone of a change's state."""
    from indexpilot_tui.engine.model.change import ACTIVE_STATES, State

    if change.state in (State.FAILED, State.NEEDS_OPERATOR, State.UNKNOWN):
        return "crit"
    if change.state in (State.DONE, State.OBSERVING):
        return "ok"
    if change.state in ACTIVE_STATES or change.state in (State.PROPOSED, State.APPROVED, State.QUEUED):
        return "warn"
    return "plain"
