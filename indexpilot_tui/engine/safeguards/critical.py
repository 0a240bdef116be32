"""When a build that runs does too much harm: load, CPU, standbys, writers. Pure; who looks, and twice, is the changes room's
observer. A build cannot be paused, only cancelled, so these limits lie above those of the gates."""

from __future__ import annotations

from dataclasses import dataclass

from indexpilot_tui.engine.observe.pulse import Pulse
from indexpilot_tui.engine.observe.replication import Standby
from indexpilot_tui.engine.safeguards.maintenance_window import duration
from indexpilot_tui.engine.safeguards.replicas import lag_of
from indexpilot_tui.engine.safeguards.table_writes import Before, Writes
from indexpilot_tui.settings.safeguards import CpuThrottle, CriticalLoad, Replicas, WritePerformance


@dataclass(frozen=True, slots=True)
class Sign:
    """One figure past its critical limit; `guard` names it in the log."""

    guard: str
    value: str
    limit: str
    sentence: str


def load_signs(pulse: Pulse, limits: CriticalLoad) -> list[Sign]:
    """Sessions at work and those that wait, our own build taken out. Raises ValueError when they are hidden."""
    if pulse.hidden or pulse.active_backends is None or pulse.lock_waiters is None or pulse.waits is None:
        raise ValueError("the sessions of others are hidden")
    if not limits.enabled:
        return []
    waits = {kind: sum(w.sessions for w in pulse.waits if w.kind == kind) for kind in ("LWLock", "IO")}
    checks = (
        ("active backends", max(0, pulse.active_backends - 1), limits.max_active_backends),
        ("lock waiters", pulse.lock_waiters, limits.max_lock_waiters),
        ("sessions that wait for each other inside the server", waits["LWLock"], limits.max_lwlock_waits),
        ("sessions that wait for the disk", waits["IO"], limits.max_io_waits),
    )
    return [
        Sign("critical_load", str(value), str(limit), f"{value} {what}, the limit is {limit}")
        for what, value, limit in checks
        if limit is not None and value > limit
    ]


def cpu_signs(used: float, what: str, policy: CpuThrottle) -> list[Sign]:
    """Per cent of the server's CPU. Raises ValueError for what cannot be."""
    if used < 0:
        raise ValueError(f"{used:g} % of CPU cannot be ({what})")
    most = policy.max_cpu_during_creation
    if used <= most:
        return []
    return [Sign("cpu", f"{used:.0f} %", f"{most:g} %", f"the server's CPU is at {used:.0f} % ({what})")]


def lag_signs(standbys: tuple[Standby, ...], limits: Replicas) -> list[Sign]:
    """The standby that is furthest behind. Raises ValueError when that cannot be told."""
    following = [s for s in standbys if s.state != "backup"]
    worst = max(following, key=lag_of, default=None)
    most = limits.critical_replay_lag_seconds
    if not limits.enabled or worst is None or lag_of(worst) <= most:
        return []
    lag = lag_of(worst)
    return [Sign("replica_lag", duration(lag), duration(most), f"the standby {worst.name} is {duration(lag)} behind")]


def write_signs(now: Writes, xacts: float | None, before: Before | None, policy: WritePerformance) -> list[Sign]:
    """Writes of the table that take much longer than before the build, and something beside it that says so, too: fewer
    transactions, or updates that are not HOT any more (measured: latency alone is weak). Without figures of before the
    limit for the start counts, alone."""
    if not policy.enabled or now.mean_ms is None or now.mean_ms < policy.critical_latency_ms:
        return []
    earlier = before.writes.mean_ms if before is not None else None
    limit = policy.max_write_latency_ms if earlier is None else policy.critical_latency_factor * earlier
    if now.mean_ms <= limit:
        return []
    beside: list[tuple[bool, str]] = []
    if before is not None and before.xacts and xacts is not None:
        fewer = xacts <= (1 - policy.critical_tps_drop) * before.xacts
        beside.append((fewer, f"{xacts:.0f} transactions a second, {before.xacts:.0f} before"))
    if before is not None and before.writes.hot is not None and now.hot is not None:
        lost = before.writes.hot - now.hot > policy.write_overhead_threshold
        beside.append((lost, f"{100 * now.hot:.0f} % of the updates are HOT, {100 * before.writes.hot:.0f} % before"))
    if beside and not any(on for on, _ in beside):
        return []
    also = "".join(f", {what}" for on, what in beside if on)
    was = "" if earlier is None else f", {earlier:.2f} ms before"
    sentence = f"writes of the table take {now.mean_ms:.2f} ms{was}{also}"
    return [Sign("writes", f"{now.mean_ms:.2f} ms", f"{limit:.2f} ms", sentence)]
