"""How much this console asks the server: at the limit it waits, and shows that what it knows grows old."""

from __future__ import annotations

from datetime import timedelta

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Purpose
from indexpilot_tui.engine.safeguards.context import Gate, GateContext

NAME = "query_rate"
SETTING = "rate_limiter.query"


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait while the window has no room for one more statement."""
    rate = ctx.session.rate
    if rate is None:
        raise ValueError("the statements of this session are not counted")
    free_in = rate.free_in(1)
    measured, limit = str(rate.used), f"{rate.most} in {rate.window_s:.0f} s"
    if free_in > 0 and ctx.session.purpose is Purpose.MONITOR:  # an executor's sessions count, and never wait
        why = "this console has asked as much as it may, and waits"
        return [Verdict(NAME, Status.WAIT, measured, limit, SETTING, why, None, ctx.now + timedelta(seconds=free_in))]
    return [Verdict(NAME, Status.PASS, measured, limit, SETTING, "statements that this console sent")]


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="rate")
