"""Transactions that a concurrent build or drop would have to wait for."""

from __future__ import annotations

import asyncio
from typing import Any

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody

NAME = "blockers"
SETTING = "production_safeguards.blockers"
READINGS, SETTLE_S = 5, 0.03


async def read(ctx: GateContext) -> list[Verdict]:
    """Verdicts on old snapshots, on lock holders of the table and on prepared transactions, all in this database.

    Measured (safe-index-changes 1.1, 2): CREATE waits for writers of the table and for every older snapshot of the
    database, not for plain readers; DROP waits for any lock holder of the table; REINDEX for both. Younger ones than the
    limit come and go on a busy table; a prepared transaction older than the limit waits for somebody to finish it.
    """
    limits = ctx.settings.production_safeguards.blockers
    await must_see_everybody(ctx)
    drop = ctx.plan is not None and ctx.plan.kind == "drop"
    any_lock = ctx.plan is not None and ctx.plan.kind in ("drop", "reindex")
    found: list[Verdict] = []
    if not drop:
        found += await _ages(
            ctx,
            "snapshots",
            {"own": ctx.own_pids},
            limit=("max_snapshot_age_seconds", limits.max_snapshot_age_seconds),
            what="an old snapshot",
        )
    if ctx.plan is not None:
        found += await _ages(
            ctx,
            "lock_holders",
            {"own": ctx.own_pids, "table_oid": ctx.plan.table_oid, "any_lock": any_lock},
            limit=("max_writer_age_seconds", limits.max_writer_age_seconds),
            what="a transaction that uses the table" if any_lock else "a transaction that wrote to the table",
        )
    found += await _ages(
        ctx,
        "prepared",
        {},
        limit=("max_snapshot_age_seconds", limits.max_snapshot_age_seconds),
        what="a prepared transaction (COMMIT PREPARED or ROLLBACK PREPARED it)",
        status=Status.BLOCK,
    )
    return found


async def _ages(
    ctx: GateContext,
    question: str,
    params: dict[str, object],
    *,
    limit: tuple[str, float],
    what: str,
    status: Status = Status.WAIT,
) -> list[Verdict]:
    key, most = limit
    rows = await settled(ctx, question, params)
    name, setting = f"{NAME}.{question}", f"{SETTING}.{key}"
    if not rows:
        return answer(name, Status.PASS, "nothing to wait for", measured="none", limit=f"{most:.0f} s", setting=setting)
    oldest, who = max((row["age_s"], row["who"]) for row in rows)
    held = oldest > most
    return answer(
        name,
        status if held else Status.PASS,
        f"{what}, {who}" if held else f"{len(rows)} at work, none older than the limit",
        measured=f"{oldest:.0f} s",
        limit=f"{most:.0f} s",
        setting=setting,
    )


async def settled(ctx: GateContext, question: str, params: dict[str, object]) -> list[dict[str, Any]]:
    """The rows with their ages. A transaction that begins or ends just now has none yet (measured under load: a session
    shows its snapshot a moment longer than its start) and counts as new; one that has none however often it is asked is
    hidden: ValueError."""
    ageless: set[str] | None = None
    for _ in range(READINGS):
        rows = await ctx.session.rows(ctx.sql(question), params or None)
        now = {str(row["who"]) for row in rows if row["age_s"] is None}
        ageless = now if ageless is None else ageless & now
        if not ageless:
            return [{**row, "age_s": float(row["age_s"] or 0.0)} for row in rows]
        await asyncio.sleep(SETTLE_S)
    raise ValueError("the age of a transaction is hidden")


PARTS = ("snapshots", "lock_holders", "prepared")
GATE = Gate(NAME, SETTING, read, target_wide=True, parts=PARTS)
