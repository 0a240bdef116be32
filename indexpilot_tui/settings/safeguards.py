"""Limits of the safeguards that look beyond the lock tables: load, disk, storage, backup.

`enabled: null` means: demanded of production, and elsewhere in force as soon as it is configured. What is demanded and not
configured counts as not measured, and so refuses.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from indexpilot_tui.settings.metrics import MetricName, MetricReference
from indexpilot_tui.settings.strict import Strict

Megabytes = Annotated[float, Field(gt=0)]


class Throttle(Strict):
    """Limits on what the server itself reports, in two samples; null: none."""

    enabled: bool = True
    sample_seconds: Annotated[float, Field(ge=0.1, le=3)] = 1.0  # between the two, at least
    cooldown_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0  # after a refusal
    max_active_backends: Annotated[int, Field(ge=1)] = 40
    max_oldest_xact_seconds: Annotated[float, Field(gt=0)] = 300.0
    max_lock_waiters: Annotated[int, Field(ge=0)] = 5
    max_lwlock_waits: Annotated[int, Field(ge=0)] | None = 10
    max_io_waits: Annotated[int, Field(ge=0)] | None = 20
    max_transactions_per_second: Annotated[float, Field(gt=0)] | None = None
    max_wal_mb_per_second: Annotated[float, Field(gt=0)] | None = None
    max_requested_checkpoints: Annotated[int, Field(ge=0)] | None = 1  # from one sample to the next


class CriticalLoad(Strict):
    """Limits during a build, looked at again after the interval before it is stopped; null: none."""

    enabled: bool = True
    interval_seconds: Annotated[float, Field(ge=0.2, le=60)] = 5.0
    max_active_backends: Annotated[int, Field(ge=1)] | None = 80
    max_lock_waiters: Annotated[int, Field(ge=0)] | None = 20
    max_lwlock_waits: Annotated[int, Field(ge=0)] | None = 40
    max_io_waits: Annotated[int, Field(ge=0)] | None = 80


class CpuThrottle(Strict):
    """The server's CPU, never the console's: from a metric in per cent, or from `cores` of the target."""

    enabled: bool | None = None
    metric: MetricReference | None = None
    cpu_threshold: Annotated[float, Field(gt=0, le=1000)] = 80.0  # per cent
    cpu_cooldown: Annotated[float, Field(ge=0, le=3600)] = 30.0  # seconds after a refusal
    max_cpu_during_creation: Annotated[float, Field(gt=0, le=1000)] = 95.0  # per cent; stops a build when seen twice


class Replicas(Strict):
    """What follows the server: standbys by their replay, slots by the WAL that they keep."""

    enabled: bool = True
    max_replay_lag_seconds: Annotated[float, Field(gt=0)] = 30.0  # to start
    critical_replay_lag_seconds: Annotated[float, Field(gt=0)] = 120.0  # to stop a build
    max_retained_wal_mb: Megabytes = 4096.0  # by a slot that nobody reads

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.critical_replay_lag_seconds < self.max_replay_lag_seconds:
            raise ValueError("critical_replay_lag_seconds is below max_replay_lag_seconds")
        return self


class WritePerformance(Strict):
    """What a new index may cost the writers of its table, before and during the build."""

    enabled: bool = True
    max_indexes_per_table: Annotated[int, Field(ge=1)] = 10  # with the new one
    warn_indexes_per_table: Annotated[int, Field(ge=1)] = 7
    write_overhead_threshold: Annotated[float, Field(ge=0, le=1)] = 0.2  # share of the updates that may stop being HOT
    max_write_latency_ms: Annotated[float, Field(gt=0)] = 100.0  # mean of the table's writes, to start
    # during a build, seen twice: so many times the mean of before, at least so long, with fewer transactions or HOT updates
    critical_latency_factor: Annotated[float, Field(ge=1)] = 3.0
    critical_latency_ms: Annotated[float, Field(ge=0)] = 20.0
    critical_tps_drop: Annotated[float, Field(gt=0, le=1)] = 0.5


class Disk(Strict):
    """Room for what a build writes. Free space cannot be seen from SQL: `metric` names one that answers with an object of
    `free_bytes` and `total_bytes`, or a target's `disk_capacity_mb` tells how large the volume is."""

    enabled: bool | None = None
    metric: MetricName | None = None
    tablespace_metrics: dict[str, MetricName] = Field(default_factory=dict)  # of volumes of their own, by tablespace
    safety_factor: Annotated[float, Field(ge=1, le=10)] = 1.3  # on the estimate
    min_free_pct: Annotated[float, Field(ge=0, lt=100)] = 10.0  # must be left afterwards


class StorageBudget(Strict):
    """How much room indexes may take, the planned one included. null: no limit."""

    enabled: bool = True
    max_storage_total_mb: Megabytes | None = None  # of all indexes of the database
    max_storage_per_table_mb: Megabytes | None = None
    warn_threshold_pct: Annotated[float, Field(gt=0, le=100)] = 80.0


class Backup(Strict):
    """No change without a way back to before it: the age of the last archived WAL, or of what `metric` proves, seconds."""

    enabled: bool | None = None
    max_archive_age_seconds: Annotated[float, Field(gt=0)] = 3600.0
    metric: MetricReference | None = None  # the age of the last good backup in seconds; replaces the archiver's word
    max_backup_age_seconds: Annotated[float, Field(gt=0)] = 86_400.0
