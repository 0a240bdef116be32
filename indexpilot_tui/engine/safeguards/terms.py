"""With which limits a change was approved: the environment and the safeguards' settings stand in its plan, so the approver
sees them, the hash binds them, and a start under looser ones is refused until somebody approves again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import Path
from typing import Any

from indexpilot_tui.settings.model import Settings, Target


class Looser(Enum):
    """Which way a setting gets looser."""

    BIGGER = "bigger"  # none at all: no limit
    SMALLER = "smaller"
    OFF = "off"  # true is stricter than null (as the environment demands), null than false


_B, _S, _O = Looser.BIGGER, Looser.SMALLER, Looser.OFF
# What is not here gets looser by any change: nobody has said which way is safe.
DIRECTIONS: dict[str, Looser] = {
    "maintenance_window.enabled": _O, "maintenance_window.max_clock_skew_seconds": _B,
    "throttle.enabled": _O, "throttle.cooldown_seconds": _S, "throttle.max_active_backends": _B,
    "throttle.max_oldest_xact_seconds": _B, "throttle.max_lock_waiters": _B, "throttle.max_lwlock_waits": _B,
    "throttle.max_io_waits": _B, "throttle.max_transactions_per_second": _B, "throttle.max_wal_mb_per_second": _B,
    "throttle.max_requested_checkpoints": _B, "throttle.sample_seconds": _S,
    "cpu_throttle.enabled": _O, "cpu_throttle.cpu_threshold": _B, "cpu_throttle.cpu_cooldown": _S,
    "cpu_throttle.max_cpu_during_creation": _B,
    "critical_load.enabled": _O, "critical_load.interval_seconds": _B, "critical_load.max_active_backends": _B,
    "critical_load.max_lock_waiters": _B, "critical_load.max_lwlock_waits": _B, "critical_load.max_io_waits": _B,
    "blockers.max_snapshot_age_seconds": _B, "blockers.max_writer_age_seconds": _B,
    "write_performance.enabled": _O, "write_performance.max_indexes_per_table": _B,
    "write_performance.warn_indexes_per_table": _B, "write_performance.write_overhead_threshold": _B,
    "write_performance.max_write_latency_ms": _B, "write_performance.critical_latency_factor": _B,
    "write_performance.critical_latency_ms": _B, "write_performance.critical_tps_drop": _B,
    "replicas.enabled": _O, "replicas.max_replay_lag_seconds": _B, "replicas.critical_replay_lag_seconds": _B,
    "replicas.max_retained_wal_mb": _B,
    "disk.enabled": _O, "disk.safety_factor": _S, "disk.min_free_pct": _S,
    "storage_budget.enabled": _O, "storage_budget.max_storage_total_mb": _B,
    "storage_budget.max_storage_per_table_mb": _B, "storage_budget.warn_threshold_pct": _B,
    "backup.enabled": _O, "backup.max_archive_age_seconds": _B, "backup.max_backup_age_seconds": _B,
    "unique_precheck.max_seconds": _B, "unique_precheck.required": _O,
    "observer.poll_seconds": _B, "observer.yield_after_seconds": _B, "observer.yield_access_exclusive_after_seconds": _B,
    "observer.initial_lock_seconds": _B, "observer.waiting_phase_seconds": _B, "observer.requeue_delay_seconds": _S,
    "observer.max_attempts": _B, "observer.lease_seconds": _B,
    "rate.max_requests": _B, "rate.time_window_seconds": _S,
}  # fmt: skip
ENVIRONMENT, SHA256, SAFEGUARDS = "environment", "sha256", "safeguards"


def _flat(section: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(section):
        value, key = getattr(section, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            found |= _flat(value, f"{key}.")
        else:
            found[key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, time | date | Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in sorted(value.items())}
    return value


def safeguards_of(target: Target, settings: Settings) -> dict[str, Any]:
    """Every setting that a gate or a guard judges by, flat, as JSON has it."""
    found = _flat(settings.production_safeguards) | _flat(settings.rate_limiter.index_creation, "rate.")
    return found | {"target.allow_unix_socket_changes": target.allow_unix_socket_changes}


def terms_of(target: Target, settings: Settings) -> dict[str, Any]:
    """What a plan holds of the limits under which it is proposed."""
    safeguards = safeguards_of(target, settings)
    text = json.dumps(safeguards, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {ENVIRONMENT: target.environment, SHA256: digest, SAFEGUARDS: safeguards}


def looser(approved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of `now` lets more through than what was approved, as `key: value then, value now`; empty when nothing does."""
    found = []
    was, is_now = approved.get(ENVIRONMENT), now[ENVIRONMENT]
    if is_now not in ("production", was):
        found.append(f"environment: {was} then, {is_now} now")
    before, after = approved.get(SAFEGUARDS, {}), now[SAFEGUARDS]
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if key not in before or key not in after or (old != new and _lets_more(DIRECTIONS.get(key), old, new)):
            found.append(f"{key}: {_told(before, key)} then, {_told(after, key)} now")
    return found


def _told(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not there"


def _lets_more(direction: Looser | None, old: Any, new: Any) -> bool:
    if direction is None:
        return True
    if direction is Looser.OFF:
        rank = {True: 2, None: 1, False: 0}
        return rank.get(new, 0) < rank.get(old, 2)
    if direction is Looser.BIGGER:
        return new is None or (old is not None and new > old)
    return new is None or (old is not None and new < old)
