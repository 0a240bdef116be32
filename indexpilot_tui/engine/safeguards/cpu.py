"""The CPU of the server, from a metric, or from the sessions on CPU where the operator has said how many cores there are.
SQL shows neither, and the CPU of the console's machine is somebody else's."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext
from indexpilot_tui.engine.safeguards.demanded import not_configured, switched_off
from indexpilot_tui.engine.safeguards.load import cooled, measure
from indexpilot_tui.engine.safeguards.signals import prime

NAME = "cpu_throttle"
SETTING = "production_safeguards.cpu_throttle"
REMEDY = (
    "the server's CPU cannot be seen from SQL: name a metric in production_safeguards.cpu_throttle.metric, or set cores"
    " of the target"
)


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait above `cpu_threshold` per cent, and for `cpu_cooldown` seconds after."""
    policy = ctx.settings.production_safeguards.cpu_throttle
    if policy.enabled is False:
        return switched_off(NAME, SETTING)
    if policy.metric is not None:
        used = await ctx.memory.metrics(ctx.settings, ctx.target).number(policy.metric, ctx.session.facts)
        what = f"metric {policy.metric}"
    elif ctx.target.cores is not None:
        on_cpu = (await measure(ctx)).on_cpu
        used = 100 * on_cpu / ctx.target.cores
        what = f"{on_cpu:.0f} sessions on {ctx.target.cores} cores"
    else:
        return not_configured(ctx, NAME, SETTING, policy.enabled, REMEDY)
    return cooled([judge(used, policy.cpu_threshold, what)], ctx.previous, ctx.now, policy.cpu_cooldown)


def judge(used: float, most: float, what: str) -> Verdict:
    """Per cent of the server's CPU. Less than nothing is no measure."""
    if used < 0:
        raise ValueError(f"{used:g} % of CPU cannot be ({what})")
    status = Status.PASS if used <= most else Status.WAIT
    return Verdict(NAME, status, f"{used:.0f} %", f"{most:g} %", f"{SETTING}.cpu_threshold", f"the server's CPU: {what}")


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="load", prime=prime)
