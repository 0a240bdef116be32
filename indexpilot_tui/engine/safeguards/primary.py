"""Changes go to the primary and the database that were planned for, not to a standby and not to another cluster.

Databases made from one template have the same OIDs: only the name tells them apart.
"""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
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
    for session in ctx.sessions if ctx.plan is not None else ():
        facts = session.facts
        if (facts.system_identifier, facts.database) != (ctx.the_plan.system_identifier, ctx.the_plan.database):
            return answer(
                NAME,
                Status.BLOCK,
                "this is another database than the one that the change was planned for",
                measured=f"database {clean_line(facts.database, 80)}",
                limit=f"database {clean_line(ctx.the_plan.database, 80)}",
            )
    return answer(NAME, Status.PASS, "not in recovery", measured="primary", limit="primary")


GATE = Gate(NAME, "", read, target_wide=True)
