"""A backup that is not too old, before anything is changed: the archiver's word, or a metric that proves one."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, flag
from indexpilot_tui.engine.safeguards.demanded import switched_off
from indexpilot_tui.engine.safeguards.maintenance_window import duration

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
    return [_archiver(await ctx.session.row(ctx.sql("archiver")), policy.max_archive_age_seconds)]


def _archiver(row: dict[str, Any] | None, most: float) -> Verdict:
    if row is None or row["mode"] is None:
        raise ValueError("the server does not tell what its archiver does")
    if row["mode"] == "off":
        return _no("archive_mode is off, so WAL is no backup: name a metric that proves one", "no archiver", "metric")
    if flag(row, "failing"):
        wal = clean_line(str(row["last_failed_wal"]), 40)
        return _no(f"the archiver fails at {wal}: look into the server's log", "failing", "max_archive_age_seconds")
    if row["age_s"] is None:
        return _no("nothing has been archived yet", "none", "max_archive_age_seconds")
    return judge(float(row["age_s"]), most, "archive", clean_line(str(row["last_archived_wal"]), 40))


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
