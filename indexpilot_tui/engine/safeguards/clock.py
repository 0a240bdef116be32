"""This machine's clock against the database's. Every rule counts by the database's; but what an operator reads and types,
and the log's second copy, go by ours: far apart, both mislead."""

from __future__ import annotations

import time
from datetime import datetime

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer

NAME = "clock"
SETTING = "production_safeguards.maintenance_window.max_clock_skew_seconds"


async def read(ctx: GateContext) -> list[Verdict]:
    """Block when the clocks differ by more than the limit; the way there and back is taken out by halves."""
    most = ctx.settings.production_safeguards.maintenance_window.max_clock_skew_seconds
    before = time.time()
    row = await ctx.session.row(ctx.sql("clock"))
    middle = (before + time.time()) / 2
    now = row["now"] if row else None
    if not isinstance(now, datetime):
        raise ValueError("the server gave no time")
    return judge(now.timestamp() - middle, most)


def judge(skew: float, most: float) -> list[Verdict]:
    """`skew`: the database's time minus ours, seconds."""
    shown, limit = f"{abs(skew):.1f} s", f"{most:g} s"
    if abs(skew) > most:
        how = "behind" if skew > 0 else "ahead of"
        return answer(
            NAME, Status.BLOCK, f"the clock of this machine is {how} the database's: set it by NTP before a change",
            measured=shown, limit=limit, setting=SETTING,
        )  # fmt: skip
    return answer(NAME, Status.PASS, "this machine and the database agree on the time", measured=shown, limit=limit,
                  setting=SETTING)  # fmt: skip


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False)
