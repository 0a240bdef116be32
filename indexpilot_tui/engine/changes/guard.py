"""What the observer sees of a build, and what it makes of it. Reading and judging only; acting is in watch.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.changes.catalog import Backend, question
from indexpilot_tui.engine.model.narrative import TABLE_LOCK
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.maintenance_window import opening
from indexpilot_tui.settings.model import Observer, Window

PHASE_BEFORE_BUILD = "waiting for writers before build"
_TRAFFIC_STOPPER = "AccessExclusiveLock"


@dataclass(frozen=True, slots=True)
class Waiter:
    """Somebody who waits for a lock. `waited_s` is measured by the server (14+) or by us since first seen. `behind`: our
    backend is in the way; else somebody else is, on the table of the build. `snapshot`: what waits holds one, and the last
    phase of a build waits for that."""

    pid: int
    mode: str
    waited_s: float
    who: str
    behind: bool = True
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody whom our backend waits for. `pid` 0: a prepared transaction, which has no process and no age here."""

    pid: int
    age_s: float | None  # of its transaction; None: not visible
    who: str

    @property
    def words(self) -> str:
        if not self.pid:
            return "a prepared transaction (COMMIT PREPARED or ROLLBACK PREPARED it)"
        age = "of unknown age" if self.age_s is None else f"{self.age_s:.0f} s old"
        return f"pid {self.pid}, its transaction {age}: {self.who}"


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `phase` is empty without a row in the progress view (a drop has none; a build waits for its first lock)."""

    now: datetime
    gone: bool
    idle: bool  # the backend is there but runs nothing
    waits_for: str  # wait event of type Lock, e.g. relation, virtualxid; empty: none
    phase: str
    index_oid: int | None
    locker: int | None
    lockers: tuple[int, int]  # done, total
    blocks: tuple[int, int]
    waiters: tuple[Waiter, ...]
    holders: tuple[Holder, ...] = ()

    @property
    def progress(self) -> dict[str, object]:
        """For the log."""
        return {
            "phase": self.phase or (TABLE_LOCK if self.waits_for == "relation" else "at work"),
            "waits_for": self.waits_for,
            "lockers_done": self.lockers[0],
            "lockers_total": self.lockers[1],
            "locker_pid": self.locker,
            "blocks_done": self.blocks[0],
            "blocks_total": self.blocks[1],
            "held_by": [h.words for h in self.holders[:5]],
            "waiters": [f"pid {w.pid} {w.mode}: {w.who}" for w in self.waiters[:5]],
        }


@dataclass(frozen=True, slots=True)
class Stop:
    """Why our own statement is to be cancelled. `retry`: it may be tried again later."""

    guard: str
    value: str
    limit: str
    sentence: str
    retry: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """Which guards act. A half-dropped index is not the old one again, so a drop is only stopped to let others pass or
    by an operator; a clean-up only to let others pass; finishing touches (ANALYZE, a comment) to let others pass or by
    an operator; a step that holds its lock for a moment only like those."""

    kind: str  # create | drop | reindex | clean | finish | step
    window: Window | None  # whose end stops a build; None: no end

    @property
    def stoppable(self) -> bool:
        return self.kind in ("create", "reindex", "finish", "step")

    @property
    def abortable(self) -> bool:
        return self.kind in ("create", "drop", "reindex", "finish", "step")


async def look(session: Session, backend: Backend) -> Reading:
    """Ask the server what our backend does, who waits behind it, and whom it waits for. Some milliseconds."""
    row = await session.row(question("guard", session), {"pid": backend.pid, "backend_start": backend.start})
    if row is None:
        raise ValueError("the server gave no row")
    rows = await session.rows(question("waiters", session), {"pid": backend.pid}) if row["pid"] is not None else []
    waiters = tuple(
        Waiter(
            r["pid"],
            r["mode"],
            float(r["waited_s"]),
            clean_line(f"{r['application_name'] or ''} {r['query'] or ''}", 160),
            behind=r["behind"],
            snapshot=r["snapshot"],
        )
        for r in rows
    )
    held = row["pid"] is not None and row["wait_event_type"] == "Lock"
    holders = await session.rows(question("holders", session), {"pid": backend.pid}) if held else []
    return Reading(
        now=row["now"],
        gone=row["pid"] is None,
        idle=row["state"] == "idle",
        waits_for=row["wait_event"] or "" if row["wait_event_type"] == "Lock" else "",
        phase=row["phase"] or "",
        index_oid=row["index_oid"] or None,
        locker=row["current_locker_pid"] or None,
        lockers=(row["lockers_done"] or 0, row["lockers_total"] or 0),
        blocks=(row["blocks_done"] or 0, row["blocks_total"] or 0),
        waiters=waiters,
        holders=tuple(Holder(r["pid"], r["age_s"], _who(r)) for r in holders),
    )


def _who(row: dict[str, Any]) -> str:
    words = (row["application_name"], row["state"], row["query"])
    return clean_line(" ".join(str(word) for word in words if word) or "hidden", 160)


@dataclass(slots=True)
class Judge:
    """Remembers since when things are so (seconds on the caller's monotonic clock) and says when one is too much."""

    limits: Observer
    rules: Rules
    _since: dict[str, float] = field(default_factory=dict)

    def _lasted(self, key: str, on: bool, clock: float) -> float:
        if not on:
            self._since.pop(key, None)
            return 0.0
        return clock - self._since.setdefault(key, clock)

    def judge(self, reading: Reading, clock: float, *, window_lifted: bool = False) -> Stop | None:
        """The first reason to stop, or None. `clock`: time.monotonic(). `window_lifted`: by an emergency bypass, now."""
        return (
            self._yield(reading, clock)
            or self._lock(reading, clock)
            or self._waiting(reading, clock)
            or (None if window_lifted else self._window(reading))
        )

    def _yield(self, reading: Reading, clock: float) -> Stop | None:
        seen = {f"waiter {w.pid} {w.mode}" for w in reading.waiters}
        for key in [k for k in self._since if k.startswith("waiter ") and k not in seen]:
            del self._since[key]
        for waiter in sorted((w for w in reading.waiters if w.behind), key=lambda w: -w.waited_s):
            waited = max(waiter.waited_s, self._lasted(f"waiter {waiter.pid} {waiter.mode}", True, clock))
            stopper = waiter.mode == _TRAFFIC_STOPPER
            limit = self.limits.yield_access_exclusive_after_seconds if stopper else self.limits.yield_after_seconds
            if waited > limit:
                return Stop(
                    "yield", f"{waited:.1f} s", f"{limit:g} s",
                    f"gave way to pid {waiter.pid}, which waited {waited:.1f} s for {waiter.mode} ({waiter.who})", True,
                )  # fmt: skip
        return None

    def _lock(self, reading: Reading, clock: float) -> Stop | None:
        waiting = not reading.phase.strip() or reading.phase == "initializing"
        lasted = self._lasted("initial lock", waiting and reading.waits_for == "relation", clock)
        limit = self.limits.initial_lock_seconds
        if lasted <= limit:
            return None
        return Stop("initial_lock", f"{lasted:.1f} s", f"{limit:g} s", "the lock on the table was not free", True)

    def _waiting(self, reading: Reading, clock: float) -> Stop | None:
        """Only before the build, where a cancel costs nothing; in the later waits the work is done (measured)."""
        lasted = self._lasted("writers", self.rules.stoppable and reading.phase == PHASE_BEFORE_BUILD, clock)
        limit = self.limits.waiting_phase_seconds
        if lasted <= limit:
            return None
        return Stop("waiting_phase", f"{lasted:.0f} s", f"{limit:g} s",
                    f"waited {lasted:.0f} s for a writer before the build ({self._whom(reading)})", False)  # fmt: skip

    @staticmethod
    def _whom(reading: Reading) -> str:
        return reading.holders[0].words if reading.holders else f"pid {reading.locker}"

    def _window(self, reading: Reading) -> Stop | None:
        if self.rules.window is None or not self.rules.stoppable or opening(self.rules.window, reading.now).open:
            return None
        return Stop("window_end", f"{reading.now:%H:%M %Z}", f"{self.rules.window.end:%H:%M}", "the window closed", False)
