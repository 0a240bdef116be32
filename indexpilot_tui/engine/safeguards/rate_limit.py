"""How many changes may start in a time, counted in the control schema across all consoles."""

from __future__ import annotations

from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.control import need_journal
from indexpilot_tui.engine.safeguards.verdict import Status, Verdict

NAME = "rate_limit"
SETTING = "rate_limiter.index_creation"


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait when all slots of the sliding window are spent. The claim counts again, under its lock; this is the view."""
    journal = need_journal(ctx)
    rate = ctx.settings.rate_limiter.index_creation
    status = await journal.rate_status(rate.max_requests, rate.time_window_seconds)
    used = status.used
    limit = f"{rate.max_requests} in {rate.time_window_seconds} s"
    if ctx.claimed:
        return answer(NAME, Status.PASS, "this change holds its slot", measured=str(used), limit=limit, setting=SETTING)
    if used >= rate.max_requests:
        when = f"; the next is free at {status.free_at:%H:%M:%S %Z}" if status.free_at else ""
        return answer(
            NAME,
            Status.WAIT,
            f"all slots are spent{when}",
            measured=str(used),
            limit=limit,
            setting=SETTING,
            retry_at=status.free_at,
        )
    return answer(NAME, Status.PASS, f"{rate.max_requests - used} left", measured=str(used), limit=limit, setting=SETTING)


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False)
