"""The load gate: what the server itself reports, in two samples. The load of our own machine says nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.signals import GRANT_MONITOR, Signals
from indexpilot_tui.engine.safeguards.context import Gate, GateContext
from indexpilot_tui.engine.safeguards.demanded import switched_off
from indexpilot_tui.engine.safeguards.memory import Two
from indexpilot_tui.engine.safeguards.signals import known, prime, signals
from indexpilot_tui.settings.safeguards import Throttle

NAME = "load"
SETTING = "production_safeguards.throttle"


@dataclass(frozen=True, slots=True)
class Load:
    """Two looks, `seconds` apart. Of a level (sessions, an age) the higher one counts, of a counter its growth. Rates are
    None where the statistics were reset in between."""

    active_backends: float
    oldest_xact_s: float
    lock_waiters: float
    on_cpu: float
    lwlock_waits: float
    io_waits: float
    transactions_per_s: float | None
    wal_bytes_per_s: float | None
    requested_checkpoints: float | None
    seconds: float
    oldest_pid: int | None


def load_of(two: Two[Signals], login: str) -> Load:
    """Raises ValueError when the sessions of others are hidden from the login."""
    for one in (two.first, two.second):
        if one.pulse.hidden:
            raise ValueError(f"the sessions of others are hidden from {login}: {GRANT_MONITOR.format(role=login)}")

    def higher(level: str) -> float:
        return max(float(known(getattr(one.pulse, level), level)) for one in (two.first, two.second))

    def waits(kind: str) -> float:
        return max(float((one.waits_by_kind or {}).get(kind, 0)) for one in (two.first, two.second))

    rates, last = two.second.rates, two.second.pulse
    return Load(
        active_backends=higher("active_backends"),
        oldest_xact_s=higher("oldest_xact_s"),
        lock_waiters=higher("lock_waiters"),
        on_cpu=higher("on_cpu"),
        lwlock_waits=waits("LWLock"),
        io_waits=waits("IO"),
        transactions_per_s=rates.xacts,
        wal_bytes_per_s=rates.wal_bytes,
        requested_checkpoints=rates.checkpoints_requested,
        seconds=two.seconds,
        oldest_pid=last.oldest_xact_pid,
    )


async def measure(ctx: GateContext) -> Load:
    """Both samples, compared. Raises ValueError for what is hidden."""
    return load_of(await signals(ctx), ctx.session.facts.session_user)


async def read(ctx: GateContext) -> list[Verdict]:
    """One verdict for each figure that has a limit. After a refusal it stays at that for the cool-down."""
    limits = ctx.settings.production_safeguards.throttle
    if not limits.enabled:
        return switched_off(NAME, SETTING)
    return cooled(judge(await measure(ctx), limits), ctx.previous, ctx.now, limits.cooldown_seconds)


def judge(load: Load, limits: Throttle) -> list[Verdict]:
    """Each figure against its limit; one at the limit passes."""
    who = f" (pid {load.oldest_pid})" if load.oldest_pid else ""
    checks: tuple[tuple[str, float | None, float | None, str, str, str], ...] = (
        ("active_backends", load.active_backends, limits.max_active_backends, "", "max_active_backends", "sessions at work"),
        ("oldest_transaction", load.oldest_xact_s, limits.max_oldest_xact_seconds, " s", "max_oldest_xact_seconds",
         f"age of the oldest transaction{who}"),
        ("lock_waiters", load.lock_waiters, limits.max_lock_waiters, "", "max_lock_waiters", "sessions wait for a lock"),
        ("lwlock_waits", load.lwlock_waits, limits.max_lwlock_waits, "", "max_lwlock_waits",
         "sessions wait for each other inside the server"),
        ("io_waits", load.io_waits, limits.max_io_waits, "", "max_io_waits", "sessions wait for the disk"),
        ("transactions", load.transactions_per_s, limits.max_transactions_per_second, "/s", "max_transactions_per_second",
         "transactions ended"),
        ("wal", _mega(load.wal_bytes_per_s), limits.max_wal_mb_per_second, " MB/s", "max_wal_mb_per_second", "WAL written"),
        ("checkpoints", load.requested_checkpoints, limits.max_requested_checkpoints, "", "max_requested_checkpoints",
         f"checkpoints asked for within {load.seconds:.0f} s: WAL comes faster than max_wal_size allows for"),
    )  # fmt: skip
    found = []
    for name, value, limit, unit, key, what in checks:
        if limit is None:
            continue
        setting = f"{SETTING}.{key}"
        if value is None:
            why = f"could not be read: the statistics were reset between two samples ({what})"
            found.append(Verdict(f"{NAME}.{name}", Status.UNKNOWN, "not measured", f"{limit:.0f}{unit}", setting, why))
        else:
            status = Status.PASS if value <= limit else Status.WAIT
            found.append(Verdict(f"{NAME}.{name}", status, f"{value:.0f}{unit}", f"{limit:.0f}{unit}", setting, what))
    return found


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def cooled(verdicts: Sequence[Verdict], previous: Sequence[Verdict], now: datetime, seconds: float) -> list[Verdict]:
    """A refusal says when it may be asked again, and until then a better figure is not believed: load comes back."""
    hot = {v.guard: v.retry_at for v in previous if v.status is Status.WAIT and v.retry_at is not None and now < v.retry_at}
    found = []
    for v in verdicts:
        if v.status is Status.WAIT:
            found.append(replace(v, retry_at=now + timedelta(seconds=seconds)))
        elif v.allows and v.guard in hot:
            found.append(replace(v, status=Status.WAIT, retry_at=hot[v.guard], evidence=f"cools down: {v.evidence}"))
        else:
            found.append(v)
    return found


PARTS = (
    "active_backends",
    "oldest_transaction",
    "lock_waiters",
    "lwlock_waits",
    "io_waits",
    "transactions",
    "wal",
    "checkpoints",
)
GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="load", prime=prime, parts=PARTS)
