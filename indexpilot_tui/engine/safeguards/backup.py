"""A backup that is not too old, before anything is changed: the archiver's word, or a metric that proves one."""

from __future__ import annotations

from datetime import datetime

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.replication import Archiver
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.demanded import switched_off
from indexpilot_tui.engine.safeguards.maintenance_window import duration
from indexpilot_tui.engine.safeguards.signals import known, replication

NAME = "backup"
SETTING = "production_safeguards.backup"
PLAYGROUNDS = ("development", "demo")  # nobody misses their data


async def read(ctx: GateContext) -> list[Verdict]:
    """Block without an archiver, or while its last attempt failed; wait while what it archived is too old. Where a metric is
    configured that alone counts: the age of the last good backup, in seconds."""
    policy = ctx.settings.production_safeguards.backup
    if policy.enabled is False:
        return switched_off(NAME, SETTING)
    if policy.metric is not None:
        age = await ctx.memory.metrics(ctx.settings, ctx.target).number(policy.metric, ctx.session.facts)
        return [judge(age, policy.max_backup_age_seconds, "backup", f"metric {policy.metric}")]
    if policy.enabled is None and ctx.target.environment in PLAYGROUNDS:
        return answer(NAME, Status.PASS, f"not asked for in {ctx.target.environment}", setting=f"{SETTING}.enabled")
    return [_archiver(known((await replication(ctx)).archiver, "the archiver"), ctx.now, policy.max_archive_age_seconds)]


def _archiver(archiver: Archiver, now: datetime, most: float) -> Verdict:
    if not archiver.enabled:
        return _no("archive_mode is off, so WAL is no backup: name a metric that proves one", "no archiver", "metric")
    if archiver.failing:
        why = f"the archiver fails ({archiver.failed_count} times so far): look into the server's log"
        return _no(why, "failing", "max_archive_age_seconds")
    if archiver.last_archived is None:
        return _no("nothing has been archived yet", "none", "max_archive_age_seconds")
    # `now` was read before the archiver was asked
    age = max(0.0, (now - archiver.last_archived).total_seconds())
    return judge(age, most, "archive", f"of {archiver.last_archived:%Y-%m-%d %H:%M:%S %Z}")


def judge(age: float, most: float, kind: str, source: str) -> Verdict:
    """The newest backup by its age in seconds. One from the future proves nothing."""
    if age < 0:
        raise ValueError(f"the age of the last {kind} is negative ({age:.0f} s)")
    setting = f"{SETTING}.max_{kind}_age_seconds"
    what = "backup" if kind == "backup" else "archived WAL"
    hint = "" if kind == "backup" else " (on a quiet server set archive_timeout, or pg_switch_wal())"
    if age > most:
        return Verdict(NAME, Status.WAIT, f"{duration(age)} old", duration(most), setting,
                       f"the newest {what} is too old: {source}{hint}")  # fmt: skip
    return Verdict(NAME, Status.PASS, f"{duration(age)} old", duration(most), setting, f"newest {what}: {source}")


def _no(evidence: str, measured: str, key: str) -> Verdict:
    return Verdict(NAME, Status.BLOCK, measured, "a backup", f"{SETTING}.{key}", evidence)


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False)
