"""The budget for indexes: what all of them take, and those of one table, with the planned one."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, number
from indexpilot_tui.engine.safeguards.demanded import CHEAP_S, megabytes, switched_off

NAME = "storage_budget"
SETTING = "production_safeguards.storage_budget"
MB = 1e6


async def read(ctx: GateContext) -> list[Verdict]:
    """Block what would exceed a budget; from the warning threshold on it passes and says so. A drop always passes."""
    policy = ctx.settings.production_safeguards.storage_budget
    if not policy.enabled:
        return switched_off(NAME, SETTING)
    budgets = {"total": policy.max_storage_total_mb, "per_table": policy.max_storage_per_table_mb}
    if ctx.plan is None:
        del budgets["per_table"]
    if not any(budgets.values()):
        return answer(NAME, Status.PASS, "no budget is set", setting=f"{SETTING}.max_storage_total_mb")
    oid = ctx.plan.table_oid if ctx.plan is not None else 0
    row = await ctx.memory.kept(f"storage {oid}", CHEAP_S, lambda: ctx.session.row(ctx.sql("storage"), {"table_oid": oid}))
    more = float((await ctx.the_estimate()).index_bytes) if ctx.plan is not None else 0.0
    used = {"total": number(row, "total_bytes"), "per_table": number(row, "table_bytes")}
    drop = ctx.plan is not None and ctx.plan.kind == "drop"
    return [
        judge(which, used[which], more, most * MB, policy.warn_threshold_pct, frees=drop)
        for which, most in budgets.items()
        if most is not None
    ]


def judge(which: str, used: float, more: float, most: float, warn_pct: float, *, frees: bool = False) -> Verdict:
    """One budget, all in bytes."""
    after = used + more
    where = "all indexes of the database" if which == "total" else "the table's indexes"
    what = f"{where} take {megabytes(used)}" + (f", {megabytes(after)} with this one" if more else "")
    key = "max_storage_total_mb" if which == "total" else "max_storage_per_table_mb"
    facts = (f"{megabytes(after)}", f"{megabytes(most)}", f"{SETTING}.{key}")
    name = f"{NAME}.{which}"
    if after > most and not frees:
        return Verdict(name, Status.BLOCK, *facts, f"{what}: drop an index that is not used, or raise the budget")
    share = 100 * after / most
    warned = f", {share:.0f} % of the budget" if share >= warn_pct else ""
    return Verdict(name, Status.PASS, *facts, what + warned)


PARTS = ("total", "per_table")
GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, parts=PARTS)
