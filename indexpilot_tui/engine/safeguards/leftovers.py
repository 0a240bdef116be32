"""A table with an INVALID leftover is cleaned first: it costs writes, and one more build can double that."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody

NAME = "leftovers"


async def read(ctx: GateContext) -> list[Verdict]:
    """Block when the table has an invalid index that nobody is building; the index that the plan drops is exempt."""
    plan = ctx.the_plan
    await must_see_everybody(ctx)  # whether somebody is building it is hidden otherwise
    rows = await ctx.session.rows(ctx.sql("leftovers"), {"table_oid": plan.table_oid, "own_oid": plan.index_oid or 0})
    if not rows:
        return answer(NAME, Status.PASS, "no INVALID index on the table", measured="none", limit="none")
    names = ", ".join(clean_line(str(row["name"]), 80) for row in rows)
    unique = any(row["indisunique"] and row["indisready"] for row in rows)
    return answer(
        NAME,
        Status.BLOCK,
        f"INVALID leftover: {names}; drop it first (DROP INDEX CONCURRENTLY)"
        + ("; being UNIQUE it still rejects rows" if unique else ""),
        measured=f"{len(rows)} INVALID",
        limit="none",
    )


GATE = Gate(NAME, "", read)
