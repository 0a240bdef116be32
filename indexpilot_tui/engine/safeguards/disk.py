"""Room on the disk for the index, its temporary files and its WAL. A build that runs out of it can keep the server from
starting again after a crash (measured: safe-index-changes, fact 10), so nothing here is taken on trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexpilot_tui.engine.metrics.answer import MetricError
from indexpilot_tui.engine.metrics.reader import Metrics
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, number
from indexpilot_tui.engine.safeguards.demanded import CHEAP_S, megabytes, not_configured, switched_off
from indexpilot_tui.engine.safeguards.signals import known, replication
from indexpilot_tui.settings.model import Target

NAME = "disk"
SETTING = "production_safeguards.disk"
MAIN = "pg_default"
MB = 1e6
REMEDY = (
    "free space cannot be seen from SQL: name a metric with free_bytes and total_bytes in production_safeguards.disk.metric,"
    " or set disk_capacity_mb of the target"
)


@dataclass(frozen=True, slots=True)
class Space:
    """One volume, bytes. `setting` is the key that it is known from."""

    free: float
    total: float
    setting: str


async def read(ctx: GateContext) -> list[Verdict]:
    """Block unless 1.3 times (index + temporary files + WAL) is free and a tenth of the volume is left then; without a plan,
    unless a tenth is free now. WAL counts twice while it cannot be recycled. A drop is a cure, and passes."""
    policy = ctx.settings.production_safeguards.disk
    if policy.enabled is False:
        return switched_off(NAME, SETTING)
    if ctx.plan is not None and ctx.plan.kind == "drop":
        return answer(NAME, Status.PASS, "a drop frees space", setting=SETTING)
    main = await _main_volume(ctx)
    if main is None:
        return not_configured(ctx, NAME, SETTING, policy.enabled, REMEDY)
    if ctx.plan is None:
        return [judge(main, 0.0, policy.min_free_pct, "")]
    build = await ctx.the_estimate()
    wal = build.wal_bytes * (2 if await _wal_is_kept(ctx) else 1)
    what = f"for an index of {megabytes(build.index_bytes)} ({build.basis})"
    if build.tablespace in ("", MAIN):
        need = policy.safety_factor * (build.index_bytes + build.temp_bytes + wal)
        return [judge(main, need, policy.min_free_pct, what)]
    own = await _volume_of(ctx, build.tablespace)
    if own is None:
        return answer(
            f"{NAME}.tablespace", Status.UNKNOWN,
            f"the index goes to tablespace {clean_line(build.tablespace, 80)}: name a metric for its volume",
            measured="not measured", setting=f"{SETTING}.tablespace_metrics",
        )  # fmt: skip
    rest = judge(main, policy.safety_factor * (build.temp_bytes + wal), policy.min_free_pct, "for temporary files and WAL")
    return [rest, judge(own, policy.safety_factor * build.index_bytes, policy.min_free_pct, what, f"{NAME}.tablespace")]


def judge(space: Space, need: float, min_free_pct: float, what: str, name: str = NAME) -> Verdict:
    """The verdict on one volume. `need` has the safety factor in it."""
    floor = min_free_pct / 100 * space.total
    left = space.free - need
    measured = f"{megabytes(space.free)} free"
    limit = f"{megabytes(need + floor)} with {min_free_pct:g} % left"
    if need > 0 and need >= space.free:
        why = f"{megabytes(need)} needed {what}, more than there is"
    elif left < floor:
        after = f"after {megabytes(need)} {what}, " if need > 0 else ""
        why = f"{after}{100 * left / space.total:.1f} % of {megabytes(space.total)} would be free"
    else:
        why = f"{megabytes(need)} needed {what}" if need > 0 else f"of {megabytes(space.total)}"
        return Verdict(name, Status.PASS, measured, limit, space.setting, why)
    return Verdict(name, Status.BLOCK, measured, limit, space.setting, f"{why}: make room first")


async def _main_volume(ctx: GateContext) -> Space | None:
    """The volume of the cluster, from the metric, else from the capacity that the operator gave; None: nobody says."""
    policy, capacity = ctx.settings.production_safeguards.disk, ctx.target.disk_capacity_mb
    if policy.metric is not None:
        return await _from_metric(ctx, policy.metric, capacity, f"{SETTING}.metric")
    if capacity is None:
        return None
    row = await ctx.memory.kept("disk", CHEAP_S, lambda: ctx.session.row(ctx.sql("disk")))
    return of_capacity(row, ctx.target)


def of_capacity(row: dict[str, Any] | None, target: Target) -> Space:
    """From the size of the whole cluster and the capacity that the operator gave. Raises ValueError when it is not known."""
    total = (target.disk_capacity_mb or 0.0) * MB
    return checked(total - number(row, "used_bytes"), total, f"targets.{target.name}.disk_capacity_mb")


async def _volume_of(ctx: GateContext, tablespace: str) -> Space | None:
    metric = ctx.settings.production_safeguards.disk.tablespace_metrics.get(tablespace)
    return None if metric is None else await _from_metric(ctx, metric, None, f"{SETTING}.tablespace_metrics")


async def _from_metric(ctx: GateContext, name: str, capacity_mb: float | None, setting: str) -> Space:
    return await from_metric(ctx.memory.metrics(ctx.settings, ctx.target), ctx.session.facts, name, capacity_mb, setting)


async def from_metric(metrics: Metrics, facts: Facts, name: str, capacity_mb: float | None, setting: str) -> Space:
    """From an object with both figures; a plain number is what is free, and needs the capacity beside it. Raises MetricError
    or ValueError when it was not measured, or cannot be true."""
    if await metrics.is_object(name, facts):
        free, total = await metrics.numbers(name, ("free_bytes", "total_bytes"), facts)
    elif capacity_mb is not None:
        free, total = await metrics.number(name, facts), capacity_mb * MB
    else:
        raise MetricError(f"metric {name} gives no total_bytes, and the target has no disk_capacity_mb")
    return checked(free, total, setting)


def checked(free: float, total: float, setting: str) -> Space:
    """Figures that can be true. More free than there is means that one of them is wrong."""
    if total <= 0 or free > total:
        raise ValueError(f"{megabytes(free)} free of {megabytes(total)} cannot be")
    return Space(max(0.0, free), total, setting)


async def _wal_is_kept(ctx: GateContext) -> bool:
    found = await replication(ctx)
    archiver = known(found.archiver, "the archiver")
    return (archiver.enabled and archiver.failing) or any(not s.active and s.retained_bytes is not None for s in found.slots)


PARTS = ("tablespace",)
GATE = Gate(NAME, SETTING, read, target_wide=True, parts=PARTS)
