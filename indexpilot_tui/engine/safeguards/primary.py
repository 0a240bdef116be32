"""Changes go to the primary that was planned for, not to a standby and not to another cluster."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, flag

NAME = "primary"


async def read(ctx: GateContext) -> list[Verdict]:
    """Block on a standby (25006 there) and on any cluster whose system identifier is not the plan's."""
    row = await ctx.session.row(ctx.sql("primary"))
    if flag(row, "in_recovery"):
        return answer(NAME, Status.BLOCK, "this is a standby: connect to the primary", measured="standby", limit="primary")
    identifier = str((row or {}).get("system_identifier") or "")
    if not identifier:
        raise ValueError("the server gave no system identifier")
    if ctx.plan is not None and identifier != ctx.plan.system_identifier:
        return answer(
            NAME,
            Status.BLOCK,
            "this is another cluster than the one that the change was planned for",
            measured=f"system {identifier}",
            limit=f"system {ctx.plan.system_identifier}",
        )
    return answer(NAME, Status.PASS, "not in recovery", measured="primary", limit="primary")


GATE = Gate(NAME, "", read, target_wide=True)
