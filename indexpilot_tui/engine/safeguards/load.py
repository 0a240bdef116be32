"""First load gate: what the server itself reports. The load of the console's own machine says nothing about it."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody, number

NAME = "load"
SETTING = "production_safeguards.throttle"


async def read(ctx: GateContext) -> list[Verdict]:
    """Three verdicts: active backends, oldest transaction of the cluster, sessions that wait for a lock."""
    limits = ctx.settings.production_safeguards.throttle
    if not limits.enabled:
        return answer(NAME, Status.PASS, "switched off in the configuration", setting=f"{SETTING}.enabled")
    await must_see_everybody(ctx)
    row = await ctx.session.row(ctx.sql("load"), {"own": ctx.own_pids})
    active, oldest, waiters = (number(row, k) for k in ("active_backends", "oldest_xact_s", "lock_waiters"))
    who = f" (pid {row['oldest_pid']})" if row and row.get("oldest_pid") else ""
    checks = (
        ("active_backends", active, float(limits.max_active_backends), "", "max_active_backends", "sessions at work"),
        (
            "oldest_transaction",
            oldest,
            limits.max_oldest_xact_seconds,
            " s",
            "max_oldest_xact_seconds",
            f"age of the oldest transaction{who}",
        ),
        ("lock_waiters", waiters, float(limits.max_lock_waiters), "", "max_lock_waiters", "sessions wait for a lock"),
    )
    return [
        Verdict(
            f"{NAME}.{name}",
            Status.PASS if value <= limit else Status.WAIT,
            f"{value:.0f}{unit}",
            f"{limit:.0f}{unit}",
            f"{SETTING}.{key}",
            what,
        )
        for name, value, limit, unit, key, what in checks
    ]


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="load")
