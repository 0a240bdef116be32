"""One change at a time in a cluster."""

from __future__ import annotations

from enum import StrEnum

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.engine.safeguards.control import need_journal

NAME = "one_at_a_time"


class Active(StrEnum):
    """The control schema's words for a change that is being carried out."""

    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    UNKNOWN = "unknown"
    VERIFYING = "verifying"
    CLEANING = "cleaning"


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait while another change of this control schema is being carried out."""
    own = ctx.change.id if ctx.change is not None else 0
    rows = [c for c in await need_journal(ctx).changes(20, tuple(Active)) if c.id != own]
    if not rows:
        return answer(NAME, Status.PASS, "no other change is being carried out", measured="none", limit="1")
    first = rows[0]
    return answer(
        NAME,
        Status.WAIT,
        f"change {first.id} is {first.state.value}, requested by {clean_line(first.requested_by, 80)}",
        measured=f"{len(rows)} other",
        limit="1",
    )


GATE = Gate(NAME, "", read, target_wide=True)
