"""How many changes may start in a time, counted in the control schema across all consoles."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.control import need_journal

NAME = "rate_limit"
SETTING = "rate_limiter.index_creation"


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait when all slots of the sliding window are spent. The claim counts again, under its lock; this is the view."""
    journal = need_journal(ctx)
    rate, policy = ctx.settings.rate_limiter.index_creation, await journal.policy()
    limits = [(rate.max_requests, float(rate.time_window_seconds), SETTING)]
    if policy.max_starts is not None and policy.per_seconds is not None:
        limits.append((policy.max_starts, float(policy.per_seconds), "indexpilot.policy.max_starts"))
    # a change that was queued again keeps the slot of its first claim; the claim checks that under its lock
    holds = ctx.claimed or (ctx.change is not None and ctx.change.state.value == "queued")
    passed: list[Verdict] = []
    for most, window_s, setting in limits:
        status = await journal.rate_status(most, window_s)
        limit = f"{most} in {window_s:.0f} s"
        if holds or status.used < most:
            what = "this change holds its slot" if holds else f"{most - status.used} left"
            passed = passed or answer(NAME, Status.PASS, what, measured=str(status.used), limit=limit, setting=setting)
            continue
        when = f"; the next is free at {status.free_at:%H:%M:%S %Z}" if status.free_at else ""
        return answer(
            NAME,
            Status.WAIT,
            f"all slots are spent{when}",
            measured=str(status.used),
            limit=limit,
            setting=setting,
            retry_at=status.free_at,
        )
    return passed


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="rate")
