"""What SQL cannot see: the metrics of the configuration, by what they are used for; and what is not configured, with what to
do about it. Asked through the same reader as the gates, so an answer that is still good is not asked for again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

from indexpilot_tui.engine.metrics.answer import MetricError
from indexpilot_tui.engine.metrics.reader import Metrics
from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.engine.safeguards import cpu, disk
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.settings.model import Settings, Target

OUTSIDE = "outside"
_GUARDS = "production_safeguards"
Aged = tuple[Gauge, float | None]
Ask = Callable[[Gauge, str, Callable[[], Awaitable[Gauge]]], Awaitable[Aged]]


async def outside_gauges(settings: Settings, target: Target, memory: Memory, facts: Facts) -> AsyncIterator[Aged]:
    """Each with the age of its answer in seconds (None: no answer)."""
    policy, metrics = settings.production_safeguards, memory.metrics(settings, target)
    used: set[str] = set()

    async def ask(gauge: Gauge, name: str, read: Callable[[], Awaitable[Gauge]]) -> Aged:
        used.add(name)
        try:
            return await read(), metrics.age(name)
        except (MetricError, ValueError) as exc:
            return replace(gauge, why=str(exc)), None

    reference = policy.cpu_throttle.metric
    limit = policy.cpu_throttle.cpu_threshold if policy.cpu_throttle.enabled is not False else None
    gauge = Gauge("cpu", OUTSIDE, "CPU", None, "%", limit, f"{_GUARDS}.cpu_throttle.cpu_threshold")
    if reference is not None:
        yield await ask(gauge, reference.partition(".")[0], partial(_cpu, gauge, metrics, reference, facts))
    else:
        instead = "" if target.cores is None else "; until then the sessions on a CPU are compared with the cores"
        yield replace(gauge, why=cpu.REMEDY + instead), None
    async for made in _disks(settings, target, memory, facts, ask):
        yield made
    reference = policy.backup.metric
    if reference is not None:
        age = Gauge("backup", OUTSIDE, "backup age", None, "s", policy.backup.max_backup_age_seconds,
                    f"{_GUARDS}.backup.max_backup_age_seconds")  # fmt: skip
        yield await ask(age, reference.partition(".")[0], partial(_plain, age, metrics, reference, facts))
    for name in settings.metrics:
        if name not in used:
            other = Gauge(f"metric {name}", OUTSIDE, name, evidence="no safeguard refers to it")
            yield await ask(other, name, partial(_other, other, metrics, name, facts))


async def _disks(settings: Settings, target: Target, memory: Memory, facts: Facts, ask: Ask) -> AsyncIterator[Aged]:
    policy, metrics = settings.production_safeguards.disk, memory.metrics(settings, target)
    floor_pct = policy.min_free_pct if policy.enabled is not False else None
    volumes = [("disk", "free disk", policy.metric)]
    volumes += [(f"disk {name}", f"free of {name}", metric) for name, metric in policy.tablespace_metrics.items()]
    for key, title, metric in volumes:
        gauge = Gauge(key, OUTSIDE, title, None, "B", None, f"{_GUARDS}.disk.min_free_pct", least=True)
        if metric is None:
            yield _from_capacity(gauge, target, memory, floor_pct)
            continue
        capacity = target.disk_capacity_mb if key == "disk" else None

        async def read(gauge: Gauge = gauge, metric: str = metric, capacity: float | None = capacity) -> Gauge:
            space = await disk.from_metric(metrics, facts, metric, capacity, gauge.setting)
            return _filled(gauge, space, floor_pct, f"metric {metric}")

        yield await ask(gauge, metric, read)


def _from_capacity(gauge: Gauge, target: Target, memory: Memory, floor_pct: float | None) -> Aged:
    """From what the disk gate has read of the whole cluster: that is dear, so nothing is asked for it here."""
    held = memory.held("disk")
    if target.disk_capacity_mb is None:
        return replace(gauge, why=disk.REMEDY), None
    if held is None:
        return replace(gauge, why="the disk gate has not asked for the size of the cluster yet"), None
    age, row = held
    try:
        space = disk.of_capacity(row, target)
    except ValueError as exc:
        return replace(gauge, why=str(exc)), None
    return _filled(gauge, space, floor_pct, f"of targets.{target.name}.disk_capacity_mb"), age


def _filled(gauge: Gauge, space: disk.Space, floor_pct: float | None, source: str) -> Gauge:
    floor = None if floor_pct is None else floor_pct / 100 * space.total
    told = f"{100 * space.free / space.total:.1f} % of the volume; {source}"
    return replace(gauge, value=space.free, limit=floor, evidence=told)


async def _cpu(gauge: Gauge, metrics: Metrics, reference: str, facts: Facts) -> Gauge:
    used = await metrics.number(reference, facts)
    if used < 0:
        raise ValueError(f"{used:g} % of CPU cannot be (metric {reference})")
    return replace(gauge, value=used, evidence=f"metric {reference}")


async def _plain(gauge: Gauge, metrics: Metrics, reference: str, facts: Facts) -> Gauge:
    value = await metrics.number(reference, facts)
    if value < 0:
        raise ValueError(f"an age of {value:.0f} s cannot be (metric {reference})")
    return replace(gauge, value=value, evidence=f"metric {reference}")


async def _other(gauge: Gauge, metrics: Metrics, name: str, facts: Facts) -> Gauge:
    if await metrics.is_object(name, facts):
        return replace(gauge, words="an object", evidence="no safeguard refers to one of its keys")
    return replace(gauge, value=await metrics.number(name, facts))
