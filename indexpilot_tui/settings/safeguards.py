"""Limits of the safeguards that look beyond the lock tables: load, disk, storage, backup.

`enabled: null` means: demanded of production, and elsewhere in force as soon as it is configured. What is demanded and not
configured counts as not measured, and so refuses.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from indexpilot_tui.settings.metrics import MetricName, MetricReference
from indexpilot_tui.settings.section import section

Megabytes = Annotated[float, Gt(0)]


@section
class Throttle:
    """Limits on what the server itself reports, in two samples; null: none."""

    enabled: bool = True
    sample_seconds: Annotated[float, Interval(ge=0.1, le=3)] = 1.0  # between the two, at least
    cooldown_seconds: Annotated[float, Interval(ge=0, le=3600)] = 30.0  # after a refusal
    max_active_backends: Annotated[int, Ge(1)] = 40
    max_oldest_xact_seconds: Annotated[float, Gt(0)] = 300.0
    max_lock_waiters: Annotated[int, Ge(0)] = 5
    max_lwlock_waits: Annotated[int, Ge(0)] | None = 10
    max_io_waits: Annotated[int, Ge(0)] | None = 20
    max_transactions_per_second: Annotated[float, Gt(0)] | None = None
    max_wal_mb_per_second: Annotated[float, Gt(0)] | None = None
    max_requested_checkpoints: Annotated[int, Ge(0)] | None = 1  # from one sample to the next


@section
class CriticalLoad:
    """Limits during a build, looked at again after the interval before it is stopped; null: none."""

    enabled: bool = True
    interval_seconds: Annotated[float, Interval(ge=0.2, le=60)] = 5.0
    max_active_backends: Annotated[int, Ge(1)] | None = 80
    max_lock_waiters: Annotated[int, Ge(0)] | None = 20
    max_lwlock_waits: Annotated[int, Ge(0)] | None = 40
    max_io_waits: Annotated[int, Ge(0)] | None = 80


@section
class CpuThrottle:
    """The server's CPU, never the console's: from a metric in per cent, or from `cores` of the target."""

    enabled: bool | None = None
    metric: MetricReference | None = None
    cpu_threshold: Annotated[float, Interval(gt=0, le=1000)] = 80.0  # per cent
    cpu_cooldown: Annotated[float, Interval(ge=0, le=3600)] = 30.0  # seconds after a refusal
    max_cpu_during_creation: Annotated[float, Interval(gt=0, le=1000)] = 95.0  # per cent; stops a build when seen twice


@section
class Replicas:
    """What follows the server: standbys by their replay, slots by the WAL that they keep."""

    enabled: bool = True
    max_replay_lag_seconds: Annotated[float, Gt(0)] = 30.0  # to start
    critical_replay_lag_seconds: Annotated[float, Gt(0)] = 120.0  # to stop a build
    max_retained_wal_mb: Megabytes = 4096.0  # by a slot that nobody reads

    def __post_init__(self) -> None:
        if self.critical_replay_lag_seconds < self.max_replay_lag_seconds:
            raise ValueError("critical_replay_lag_seconds is below max_replay_lag_seconds")


@section
class WritePerformance:
    """What a new index may cost the writers of its table, before and during the build."""

    enabled: bool = True
    max_indexes_per_table: Annotated[int, Ge(1)] = 10  # with the new one
    warn_indexes_per_table: Annotated[int, Ge(1)] = 7
    write_overhead_threshold: Annotated[float, Interval(ge=0, le=1)] = 0.2  # share of the updates that may stop being HOT
    max_write_latency_ms: Annotated[float, Gt(0)] = 100.0  # mean of the table's writes, to start
    # during a build, seen twice: so many times the mean of before, at least so long, with fewer transactions or HOT updates
    critical_latency_factor: Annotated[float, Ge(1)] = 3.0
    critical_latency_ms: Annotated[float, Ge(0)] = 20.0
    critical_tps_drop: Annotated[float, Interval(gt=0, le=1)] = 0.5


@section
class Disk:
    """Room for what a build writes. Free space cannot be seen from SQL: `metric` names one that answers with an object of
    `free_bytes` and `total_bytes`, or a target's `disk_capacity_mb` tells how large the volume is."""

    enabled: bool | None = None
    metric: MetricName | None = None
    tablespace_metrics: dict[str, MetricName] = field(default_factory=dict)  # of volumes of their own, by tablespace
    safety_factor: Annotated[float, Interval(ge=1, le=10)] = 1.3  # on the estimate
    min_free_pct: Annotated[float, Interval(ge=0, lt=100)] = 10.0  # must be left afterwards


@section
class StorageBudget:
    """How much room indexes may take, the planned one included. null: no limit."""

    enabled: bool = True
    max_storage_total_mb: Megabytes | None = None  # of all indexes of the database
    max_storage_per_table_mb: Megabytes | None = None
    warn_threshold_pct: Annotated[float, Interval(gt=0, le=100)] = 80.0


@section
class Backup:
    """No change without a way back to before it: the age of the last archived WAL, or of what `metric` proves, seconds."""

    enabled: bool | None = None
    max_archive_age_seconds: Annotated[float, Gt(0)] = 3600.0
    metric: MetricReference | None = None  # the age of the last good backup in seconds; replaces the archiver's word
    max_backup_age_seconds: Annotated[float, Gt(0)] = 86_400.0
