"""Another person has approved exactly this plan, not long ago."""

from __future__ import annotations

from datetime import timedelta

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import ChangeView, Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.control import need_journal
from indexpilot_tui.engine.safeguards.terms import looser, terms_of

NAME = "approval"
SETTING = "approval.expires_after_hours"
ROLLBACK_COVERED = timedelta(days=1)  # DESIGN section 6: an approval covers its own rollback for a day
SHOWN = 4  # settings that the evidence names
STARTABLE = ("approved", "queued")


async def read(ctx: GateContext) -> list[Verdict]:
    """Block without a valid approval of this very plan by another login. The claim checks the same in the server."""
    plan, change = ctx.the_plan, ctx.change
    if change is None:
        return _no("the change is not proposed yet, so nobody has approved it", "not proposed")
    if ctx.rollback and ctx.parent is not None and change.covered:
        covered = [a for a in ctx.parent.approvals if ctx.now - a.at <= ROLLBACK_COVERED]
        if covered:
            who = clean_line(covered[-1].approver, 80)
            return answer(NAME, Status.PASS, f"covered by the approval of change {ctx.parent.id} by {who}",
                          measured="covered", limit="approved", setting=SETTING)  # fmt: skip
    if not ctx.claimed and change.state.value not in STARTABLE:
        return _no(f"the change is {change.state.value}, not approved", change.state.value)
    if plan.sha256 != change.plan_sha256:
        return _no("the plan is not the one that was proposed: its hash differs", "other plan")
    if not ctx.rollback and (let_through := looser(plan.terms, terms_of(ctx.target, ctx.settings))):
        more = f" and {len(let_through) - SHOWN} more" if len(let_through) > SHOWN else ""
        told = f"looser limits than it was approved with ({'; '.join(let_through[:SHOWN])}{more}): propose it again"
        return _no(told, "looser limits")
    return await _judge(ctx, change)


async def _judge(ctx: GateContext, change: ChangeView) -> list[Verdict]:
    matching = [a for a in change.approvals if a.plan_sha256 == ctx.the_plan.sha256]
    if not matching:
        return _no("nobody has approved this plan", "none" if not change.approvals else "other plan")
    valid = [a for a in matching if a.another]
    if not valid and await need_journal(ctx).alone(change.id):
        valid = matching  # a site with a single operator: the administrator's row says so, and every row of the log
    if not valid:
        return _no("approved by the person who requested it; another login must", "self")
    last = max(valid, key=lambda a: a.expires_at)
    who = clean_line(last.approver, 80)
    if last.expires_at <= ctx.now:
        return _no(f"the approval by {who} expired at {last.expires_at:%Y-%m-%d %H:%M %Z}: propose again", "expired")
    return answer(NAME, Status.PASS, f"by {who}, until {last.expires_at:%Y-%m-%d %H:%M %Z}", measured="approved",
                  limit="approved", setting=SETTING)  # fmt: skip


def _no(evidence: str, measured: str) -> list[Verdict]:
    return answer(NAME, Status.BLOCK, evidence, measured=measured, limit="approved", setting=SETTING)


GATE = Gate(NAME, SETTING, read)
