"""Rules on the control schema: is the log whole, does a change need somebody, are starts stopped."""

from __future__ import annotations

from indexpilot_tui.check.context import CheckContext, JournalReader, Rule, critical, ok, warning
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.model.change import ACTIVE_STATES, State
from indexpilot_tui.errors import ServerError


def _journal(ctx: CheckContext) -> JournalReader:
    if ctx.journal_error is not None:
        raise ctx.journal_error
    if ctx.journal is None:
        raise ServerError("the control schema was not looked for")
    return ctx.journal


async def audit_chain(ctx: CheckContext) -> Outcome:
    report = await _journal(ctx).verify_chain()
    if report.ok:
        return ok(f"all {report.rows} rows of the log follow from each other", {"rows": report.rows})
    return critical(
        f"the log was tampered with or damaged: {report.reason}",
        {"rows": report.rows, "first_bad_seq": report.first_bad_seq},
        fix="keep a copy (`indexpilot audit export`), compare it with an export from before, and find out who writes to it",
    )


async def stuck_changes(ctx: CheckContext) -> Outcome:
    journal = _journal(ctx)
    orphans = set(await journal.orphans())
    states = [*(state.value for state in ACTIVE_STATES), State.OBSERVING.value, State.NEEDS_OPERATOR.value]
    changes = await journal.changes(200, states)
    stuck = [c for c in changes if c.id in orphans or c.state in (State.NEEDS_OPERATOR, State.UNKNOWN)]
    if not stuck:
        return ok(
            f"{len(changes)} changes are under way, each with a live executor" if changes else "no change is under way"
        )
    evidence = [
        {"change": c.id, "state": str(c.state), "since": c.state_since, "outcome": c.outcome, "orphan": c.id in orphans}
        for c in stuck
    ]
    fix = "\n".join(
        f"indexpilot changes show {c.id}"
        + ("" if c.state is State.NEEDS_OPERATOR else "  -- the next console start reconciles it with the catalog")
        for c in stuck
    )
    return critical(
        f"{len(stuck)} changes are stuck: {', '.join(f'{c.id} ({c.state})' for c in stuck[:5])}", *evidence, fix=fix
    )


async def kill_switch(ctx: CheckContext) -> Outcome:
    policy = await _journal(ctx).policy()
    if policy.starts_stopped:
        return warning(
            f"all starts of changes are stopped by {policy.by}: {policy.reason}",
            {"by": policy.by, "reason": policy.reason},
            fix="SELECT indexpilot.allow_starts('reason')  -- by an approver, when the reason is gone",
        )
    return ok("changes may start")


RULES = (
    Rule("audit_chain", "Hash chain of the log", audit_chain, needs_control=True, timeout_s=60.0),
    Rule("stuck_changes", "Stuck changes", stuck_changes, needs_control=True),
    Rule("kill_switch", "Kill switch", kill_switch, needs_control=True),
)
