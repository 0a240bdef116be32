"""What the server itself reports: load, waits, writes, room. Pure.

The limits are those of the throttle; the gates make their verdicts from two readings of their own, and here is the newest
reading of the console. A limit that is switched off is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.observe.pulse import Pulse
from indexpilot_tui.engine.observe.signals import Signals
from indexpilot_tui.engine.observe.writing import Measured
from indexpilot_tui.engine.safeguards.maintenance_window import duration
from indexpilot_tui.settings.model import Settings, Target

LOAD, WAITS, WRITES, ROOM = "load", "waits", "writes", "room"
THROTTLE = "production_safeguards.throttle"
_RATE_UNKNOWN = "one reading is no interval yet, or the server began anew"
_KINDS = (("Lock", "lock waiters", "max_lock_waiters"), ("LWLock", "LWLock waits", "max_lwlock_waits"),
          ("IO", "I/O waits", "max_io_waits"))  # fmt: skip
_EVENTS = 5


@dataclass(frozen=True, slots=True)
class _Limits:
    """The limits of the throttle, or none where it is switched off."""

    settings: Settings

    def of(self, key: str) -> tuple[float | None, str]:
        throttle = self.settings.production_safeguards.throttle
        value = getattr(throttle, key) if throttle.enabled else None
        return (None if value is None else float(value)), f"{THROTTLE}.{key if throttle.enabled else 'enabled'}"


def server_gauges(signals: Signals, settings: Settings, target: Target) -> Iterator[Gauge]:
    """All of them, group by group."""
    yield from _load(signals, settings, target)
    yield from _waits(signals, settings)
    yield from _writes(signals, settings)
    yield from _room(signals)


def _hidden(signals: Signals) -> str:
    pulse = signals.pulse
    return f"the state of {pulse.hidden} sessions of other roles is hidden: {signals.grant}" if pulse.hidden else ""


def _load(signals: Signals, settings: Settings, target: Target) -> Iterator[Gauge]:
    pulse, limits, why = signals.pulse, _Limits(settings), _hidden(signals)
    at = pulse.at
    cpu = settings.production_safeguards.cpu_throttle
    most, setting = limits.of("max_active_backends")
    critical = settings.production_safeguards.critical_load.max_active_backends
    told = f"a build is stopped above {critical}" if critical is not None else ""
    yield Gauge("active", LOAD, "active backends", _float(pulse.active_backends), "", most, setting, at, why, told)
    if signals.cores is None:
        of = f"targets.{target.name}.cores is not set, so there is nothing to compare with: SQL does not show the CPUs"
        yield Gauge("on_cpu", LOAD, "on a CPU", _float(pulse.on_cpu), "", None, "", at, why, of)
    else:
        share = signals.cpu_share
        of = f"of {signals.cores} cores" + (f": {100 * share:.0f} %" if share is not None else "")
        judged = cpu.enabled is not False and cpu.metric is None  # else the metric is what counts
        most = signals.cores * cpu.cpu_threshold / 100 if judged else None
        setting = "production_safeguards.cpu_throttle.cpu_threshold" if judged else ""
        yield Gauge("on_cpu", LOAD, "on a CPU", _float(pulse.on_cpu), "", most, setting, at, why, of)
    yield Gauge("idle", LOAD, "idle in transaction", _float(pulse.idle_in_transaction), "", None, "", at, why)
    most, setting = limits.of("max_oldest_xact_seconds")
    who = f"pid {pulse.oldest_xact_pid}: {pulse.oldest_xact_query}" if pulse.oldest_xact_pid else ""
    yield Gauge("oldest_xact", LOAD, "oldest transaction", pulse.oldest_xact_s, "s", most, setting, at, why, who)
    most = settings.production_safeguards.blockers.max_snapshot_age_seconds
    setting = "production_safeguards.blockers.max_snapshot_age_seconds"
    here = "of this database: a build waits for it"
    yield Gauge("snapshot", LOAD, "oldest snapshot", pulse.oldest_snapshot_s, "s", most, setting, at, why, here)
    age = f"the oldest is {duration(pulse.oldest_prepared_s)} old" if pulse.oldest_prepared_s is not None else ""
    yield Gauge("prepared", LOAD, "prepared xacts", float(pulse.prepared_xacts), "", None, "", at, "", age)


def _waits(signals: Signals, settings: Settings) -> Iterator[Gauge]:
    pulse, limits, why = signals.pulse, _Limits(settings), _hidden(signals)
    kinds = signals.waits_by_kind
    for kind, name, key in _KINDS:
        most, setting = limits.of(key)
        value = pulse.lock_waiters if kind == "Lock" else None if kinds is None else kinds.get(kind, 0)
        yield Gauge(key, WAITS, name, _float(value), "", most, setting, pulse.at, why, _events(pulse, (kind,)))
    known = {"", *(kind for kind, _, _ in _KINDS)}
    others = tuple(kind for kind in kinds or () if kind not in known)
    number = None if kinds is None else float(sum(kinds[kind] for kind in others))
    yield Gauge("waits", WAITS, "other waits", number, "", None, "", pulse.at, why, _events(pulse, others))


def _events(pulse: Pulse, kinds: tuple[str, ...]) -> str:
    """What is waited for, most first."""
    found: dict[str, int] = {}
    for wait in pulse.waits or ():
        if wait.kind in kinds:
            name = wait.event if len(kinds) == 1 else f"{wait.kind}:{wait.event}"
            found[name] = found.get(name, 0) + wait.sessions
    most = sorted(found.items(), key=lambda item: -item[1])
    return " · ".join(f"{name} {number}" for name, number in most[:_EVENTS])


def _writes(signals: Signals, settings: Settings) -> Iterator[Gauge]:
    pulse, rates, limits = signals.pulse, signals.rates, _Limits(settings)
    at = pulse.at

    def since(value: float | None) -> str:
        return _RATE_UNKNOWN if value is None else ""

    most, setting = limits.of("max_transactions_per_second")
    rolled = f"{rates.rollbacks:.1f} of them rolled back" if rates.rollbacks is not None else ""
    yield Gauge("xacts", WRITES, "transactions", rates.xacts, "/s", most, setting, at, since(rates.xacts), rolled)
    megabytes, setting = limits.of("max_wal_mb_per_second")
    most = None if megabytes is None else megabytes * 1e6
    replayed = "replayed here" if pulse.in_recovery else ""
    yield Gauge("wal", WRITES, "WAL", rates.wal_bytes, "B/s", most, setting, at, since(rates.wal_bytes), replayed)
    asked = rates.checkpoints_requested
    most, setting = limits.of("max_requested_checkpoints")
    timed = f"and {rates.checkpoints_timed} by time" if rates.checkpoints_timed is not None else ""
    told = f"in {rates.seconds:.1f} s, {timed}" if rates.seconds else ""
    yield Gauge("checkpoints", WRITES, "ckpt requested", _float(asked), "", most, setting, at, since(asked), told)
    yield from _latency(signals, settings)
    off = "" if signals.times_io else "track_io_timing is off: ALTER SYSTEM SET track_io_timing = on, and reload"
    off = "whether blocks are timed was not read yet" if signals.times_io is None else off
    for key, name, value in (
        ("block_read", "block reads", rates.block_read_ms),
        ("block_write", "block writes", rates.block_write_ms),
    ):
        told = "time of this database's sessions; the checkpointer's is not in it"
        yield Gauge(key, WRITES, name, value, "ms/s", None, "", at, off or since(value), told)
    yield Gauge("deadlocks", WRITES, "deadlocks", _float(rates.deadlocks), "", None, "", at, since(rates.deadlocks))
    files = rates.temp_files
    yield Gauge("temp_files", WRITES, "temp files", _per(files, rates.seconds), "/s", None, "", at, since(files),
                f"{pulse.temp_files} since the reset")  # fmt: skip
    yield Gauge("temp_bytes", WRITES, "temp bytes", rates.temp_bytes, "B/s", None, "", at, since(rates.temp_bytes))


def _latency(signals: Signals, settings: Settings) -> Iterator[Gauge]:
    policy = settings.production_safeguards.write_performance
    most = policy.max_write_latency_ms if policy.enabled else None
    setting = "production_safeguards.write_performance.max_write_latency_ms"
    writing = signals.writing
    mean = writing.mean_ms if writing is not None else Measured(None, "it was not read yet")
    told = f"mean of {mean.count:,.0f} calls; a commit's own wait is not in it" if mean.count else ""
    yield Gauge("latency", WRITES, "write latency", mean.value, "ms", most, setting, mean.at, mean.reason, told)
    hot = writing.hot if writing is not None else Measured(None, "it was not read yet")
    told = f"of {hot.count:,.0f} updates" if hot.count else ""
    value = None if hot.value is None else 100 * hot.value
    slow = max(120.0, 4 * settings.observe.health_interval_seconds)  # tables are read with index health
    yield Gauge("hot", WRITES, "HOT updates", value, "%", None, "", hot.at, hot.reason, told, old_after_s=slow)


def _room(signals: Signals) -> Iterator[Gauge]:
    pulse = signals.pulse
    left = float(signals.connections_left)
    told = f"of {pulse.max_connections}, {pulse.reserved_connections} of them reserved; {pulse.client_backends} in use"
    yield Gauge("connections", ROOM, "connections left", left, "", 1.0, "max_connections of the server", pulse.at, "", told,
                least=True)  # fmt: skip


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _per(value: float | None, seconds: float) -> float | None:
    return None if value is None or seconds <= 0 else value / seconds
