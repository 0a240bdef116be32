"""Nobody else changes, analyzes or vacuums the table by hand while we start."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody

NAME = "same_table_ddl"


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait while somebody holds or waits for ShareUpdateExclusive or stronger on the table.

    An ordinary autovacuum worker is not counted: the server cancels it for us after deadlock_timeout; one that
    prevents wraparound is, since we would queue behind it (both measured, safe-index-changes 1.1).
    """
    await must_see_everybody(ctx)
    params = {"table_oid": ctx.the_plan.table_oid, "own": ctx.own_pids}
    rows = await ctx.session.rows(ctx.sql("table_ddl"), params)
    if not rows:
        return answer(NAME, Status.PASS, "nobody else changes this table", measured="none", limit="none")
    first = rows[0]
    if first["query"] is None:
        raise ValueError("what the other session runs is hidden")
    verb = "holds" if first["granted"] else "waits for"
    return answer(
        NAME,
        Status.WAIT,
        f"pid {first['pid']} {verb} {first['mode']}: {clean_line(str(first['query']), 120)}",
        measured=f"{len(rows)} other",
        limit="none",
    )


GATE = Gate(NAME, "", read)
