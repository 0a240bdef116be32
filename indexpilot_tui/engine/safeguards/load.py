"""The load gate: what the server itself reports, in two samples. The load of our own machine says nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, must_see_everybody, number
from indexpilot_tui.engine.safeguards.demanded import switched_off
from indexpilot_tui.engine.safeguards.memory import Two
from indexpilot_tui.settings.safeguards import Throttle

NAME = "load"
SETTING = "production_safeguards.throttle"
LEVELS = ("active_backends", "oldest_xact_s", "lock_waiters", "on_cpu", "lwlock_waits", "io_waits")
COUNTERS = ("transactions", "wal_bytes", "checkpoints")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: figures by their names in load.sql, and who has the oldest transaction."""

    figures: dict[str, float]
    oldest_pid: int | None


@dataclass(frozen=True, slots=True)
class Load:
    """Two looks: of a level the higher one counts, of a counter what it grew by in between."""

    levels: dict[str, float]
    grown: dict[str, float]
    seconds: float
    oldest_pid: int | None

    def rate(self, counter: str) -> float:
        """A second."""
        return self.grown[counter] / self.seconds


def sample_of(row: dict[str, Any] | None) -> Sample:
    """Raises ValueError when a figure is missing."""
    figures = {key: number(row, key) for key in (*LEVELS, *COUNTERS)}
    return Sample(figures, row.get("oldest_pid") if row else None)


async def look(ctx: GateContext) -> Sample:
    """One sample."""
    return sample_of(await ctx.session.row(ctx.sql("load"), {"own": ctx.own_pids}))


async def prime(ctx: GateContext) -> None:
    """The first sample, before the other gates are asked: so the second need not be waited for as long."""
    if ctx.settings.production_safeguards.throttle.enabled or ctx.target.cpu_cores is not None:
        await ctx.memory.first(NAME, lambda: look(ctx))


async def measure(ctx: GateContext) -> Load:
    """Both samples, compared, once for all gates of an evaluation. Raises ValueError for what was not measured."""
    return await ctx.memory.once(NAME, ctx.now, lambda: _measure(ctx))


async def _measure(ctx: GateContext) -> Load:
    await must_see_everybody(ctx)
    wait = ctx.settings.production_safeguards.throttle.sample_seconds
    return compare(await ctx.memory.two(NAME, wait, lambda: look(ctx)))


def compare(two: Two[Sample]) -> Load:
    """Raises ValueError when the statistics were reset in between."""
    before, after = two.first.figures, two.second.figures
    grown = {key: after[key] - before[key] for key in COUNTERS}
    if min(grown.values()) < 0:
        raise ValueError("the statistics were reset between two samples")
    levels = {key: max(before[key], after[key]) for key in LEVELS}
    return Load(levels, grown, two.seconds, two.second.oldest_pid)


async def read(ctx: GateContext) -> list[Verdict]:
    """One verdict for each figure that has a limit. After a refusal it stays at that for the cool-down."""
    limits = ctx.settings.production_safeguards.throttle
    if not limits.enabled:
        return switched_off(NAME, SETTING)
    return cooled(judge(await measure(ctx), limits), ctx.previous, ctx.now, limits.cooldown_seconds)


def judge(load: Load, limits: Throttle) -> list[Verdict]:
    """Each figure against its limit; one at the limit passes."""
    who = f" (pid {load.oldest_pid})" if load.oldest_pid else ""
    level = load.levels
    checks = (
        ("active_backends", level["active_backends"], limits.max_active_backends, "", "max_active_backends",
         "sessions at work"),
        ("oldest_transaction", level["oldest_xact_s"], limits.max_oldest_xact_seconds, " s", "max_oldest_xact_seconds",
         f"age of the oldest transaction{who}"),
        ("lock_waiters", level["lock_waiters"], limits.max_lock_waiters, "", "max_lock_waiters", "sessions wait for a lock"),
        ("lwlock_waits", level["lwlock_waits"], limits.max_lwlock_waits, "", "max_lwlock_waits",
         "sessions wait for each other inside the server"),
        ("io_waits", level["io_waits"], limits.max_io_waits, "", "max_io_waits", "sessions wait for the disk"),
        ("transactions", load.rate("transactions"), limits.max_transactions_per_second, "/s", "max_transactions_per_second",
         "transactions ended"),
        ("wal", load.rate("wal_bytes") / 1e6, limits.max_wal_mb_per_second, " MB/s", "max_wal_mb_per_second", "WAL written"),
        ("checkpoints", load.grown["checkpoints"], limits.max_requested_checkpoints, "", "max_requested_checkpoints",
         f"checkpoints asked for within {load.seconds:.0f} s: WAL comes faster than max_wal_size allows for"),
    )  # fmt: skip
    return [
        Verdict(f"{NAME}.{name}", Status.PASS if value <= limit else Status.WAIT, f"{value:.0f}{unit}", f"{limit:.0f}{unit}",
                f"{SETTING}.{key}", what)
        for name, value, limit, unit, key, what in checks
        if limit is not None
    ]  # fmt: skip


def cooled(verdicts: Sequence[Verdict], previous: Sequence[Verdict], now: datetime, seconds: float) -> list[Verdict]:
    """A refusal says when it may be asked again, and until then a better figure is not believed: load comes back."""
    hot = {v.guard: v.retry_at for v in previous if v.status is Status.WAIT and v.retry_at is not None and now < v.retry_at}
    found = []
    for v in verdicts:
        if not v.allows:
            found.append(replace(v, retry_at=now + timedelta(seconds=seconds)))
        elif v.guard in hot:
            found.append(replace(v, status=Status.WAIT, retry_at=hot[v.guard], evidence=f"cools down: {v.evidence}"))
        else:
            found.append(v)
    return found


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="load", prime=prime)
