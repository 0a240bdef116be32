"""Transactions that a concurrent build or drop would have to wait for."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody

NAME = "blockers"
SETTING = "production_safeguards.blockers"


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
    rows = await ctx.session.rows(ctx.sql(question), params or None)
    name, setting = f"{NAME}.{question}", f"{SETTING}.{key}"
    if not rows:
        return answer(name, Status.PASS, "nothing to wait for", measured="none", limit=f"{most:.0f} s", setting=setting)
    ages = [row["age_s"] for row in rows]
    if any(age is None for age in ages):
        raise ValueError("the age of a transaction is hidden")
    oldest = max(float(age) for age in ages)
    who = rows[0]["who"]
    held = oldest > most
    return answer(
        name,
        status if held else Status.PASS,
        f"{what}, {who}" if held else f"{len(rows)} at work, none older than the limit",
        measured=f"{oldest:.0f} s",
        limit=f"{most:.0f} s",
        setting=setting,
    )


GATE = Gate(NAME, SETTING, read, target_wide=True)
