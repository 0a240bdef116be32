"""The raw signals of the frozen engine, made by the engine's own rules from one frozen reading: a shop under load, with a
standby behind, a slot that nobody reads, a standby that may not be looked at, and a metric that gives no answer."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from indexpilot_tui.engine.gauges.follow import follow_gauges
from indexpilot_tui.engine.gauges.server import server_gauges
from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.observe.optional.model import Extras, Kernel, Waits
from indexpilot_tui.engine.observe.pulse import Pulse, Rates, Wait
from indexpilot_tui.engine.observe.replication import Archiver, Replication, Slot, Standby
from indexpilot_tui.engine.observe.signals import Signals
from indexpilot_tui.engine.observe.writing import Measured, Writing
from indexpilot_tui.engine.safeguards import cpu
from indexpilot_tui.settings.model import Settings, Target
from tests.tui import sample

NOW = sample.NOW


def pulse() -> Pulse:
    waits = (
        Wait(1, "", "", 11), Wait(1, "IO", "DataFileRead", 14), Wait(2, "IO", "WALSync", 9), Wait(3, "LWLock", "WALWrite", 3),
        Wait(4, "Lock", "transactionid", 2), Wait(5, "Client", "ClientRead", 3), Wait(6, "IPC", "BtreePage", 1),
    )  # fmt: skip
    return Pulse(
        at=NOW, started=NOW - timedelta(days=3), in_recovery=False, hidden=0, active_backends=37, on_cpu=11,
        idle_in_transaction=4, lock_waiters=2, waits=waits, oldest_xact_s=12.4, oldest_xact_pid=8123,
        oldest_xact_query="update orders set status = $1", oldest_snapshot_s=4.2, prepared_xacts=1, oldest_prepared_s=98_000.0,
        builds=0, client_backends=88, max_connections=200, reserved_connections=5, commits=1, rollbacks=0, temp_bytes=0,
        deadlocks=0, wal_position=0.0, checkpoints_timed=0, checkpoints_requested=0, began=NOW, ms=0.4, round_ms=0.9,
        temp_files=1_204,
    )  # fmt: skip


def signals() -> Signals:
    standbys = (
        Standby("replica-a", "10.0.4.21", "streaming", "sync", 0.0, 1_200.0, 52_000.0, 0.1, 0.4, 0.2, True),
        Standby("replica-b", "10.0.4.22", "streaming", "async", 61e6, 64e6, 240e6, 12.0, 48.0, 0.4, True),
        Standby("report", "10.0.9.3", "", "", None, None, None, None, None, None, False),
    )
    slots = (
        Slot("replica_a", "physical", True, "reserved", 1e6, None, None),
        Slot("old_cdc", "logical", False, "extended", 6.2e9, 2.1e9, 812_000),
    )
    archiver = Archiver(True, False, 3, NOW - timedelta(seconds=41), NOW - timedelta(days=2))
    return Signals(
        pulse(), Rates(2.0, 1_842.0, 3.1, 7.4e6, 12.5e6, 0, 0, 1, 6, 212.4, 8.1),
        Replication(standbys, slots, archiver, 4e9, None, None), 16, NOW - timedelta(seconds=6),
        Writing(Measured(3.2, "", NOW, 1_412.0), Measured(0.71, "", NOW - timedelta(seconds=24), 4_120.0)), False,
        "GRANT pg_monitor TO alice",
    )  # fmt: skip


def gauges() -> tuple[Gauge, ...]:
    settings, target = Settings(), Target(name="orders", environment="demo", cores=16)
    of_server = [*server_gauges(signals(), settings, target), *follow_gauges(signals(), settings)]
    disk = "production_safeguards.disk.min_free_pct"
    outside = [
        Gauge("cpu", "outside", "CPU", None, "%", 80.0, "production_safeguards.cpu_throttle.cpu_threshold", why=cpu.REMEDY),
        Gauge("disk", "outside", "free disk", 41e9, "B", 50e9, disk, NOW - timedelta(seconds=3), "",
              "8.2 % of the volume; metric node", least=True),
        Gauge("backup", "outside", "backup age", None, "s", 86_400.0, "production_safeguards.backup.max_backup_age_seconds",
              why="metric saved: the hook gave no answer within 3 s"),
    ]  # fmt: skip
    return tuple(replace(g, trend=_trend(g, number)) for number, g in enumerate([*of_server, *outside]))


def extras(queryid: int | None) -> Extras:
    """One extension is there; the other two are named. The waits of the server are told, too."""
    waits = Waits((("IO:DataFileRead", 311), ("LWLock:WALWrite", 44), ("Lock:transactionid", 12)), 10.0)
    since = Waits((("IO:DataFileRead", 1_204_311), ("LWLock:WALWrite", 44_120)), 10.0)
    if queryid is None:
        return Extras(NOW, 5.2, None, None, waits, since)
    missing = (
        "pg_stat_kcache: pg_stat_kcache must be loaded via shared_preload_libraries",
        "pg_qualstats is not in this database",
    )
    if queryid % 2:
        return Extras(missing=missing)
    kernel, ever = Kernel(3.1, 0.4, 61e6, 0.0), Kernel(88_400.0, 9_120.0, 4.1e12, 2e9)
    return Extras(NOW, 5.2, kernel, ever, waits, since, missing[1:])


def _trend(gauge: Gauge, number: int) -> tuple[float, ...]:
    if gauge.value is None or gauge.why:
        return ()
    past = [gauge.value * (0.55 + 0.05 * ((number * 3 + i * 5) % 9)) for i in range(13)]
    if number % 5 == 0:
        past[4] = math.nan  # a reading that failed
    return (*past, gauge.value)
