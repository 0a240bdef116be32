"""One row in the control schema that stops all starts at once."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.control import need_journal

NAME = "kill_switch"


async def read(ctx: GateContext) -> list[Verdict]:
    """Block while the switch is on. It holds a rollback as well: it means hands off."""
    policy = await need_journal(ctx).policy()
    if policy.starts_stopped:
        evidence = f"{clean_line(policy.by, 80)} stopped all changes: {clean_line(policy.reason, 200)}"
        return answer(NAME, Status.BLOCK, evidence, measured="on", limit="off")
    return answer(NAME, Status.PASS, "changes are not stopped", measured="off", limit="off")


GATE = Gate(NAME, "", read, target_wide=True)
