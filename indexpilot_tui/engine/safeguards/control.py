"""What the gates that read the control schema share."""

from __future__ import annotations

from indexpilot_tui.engine.safeguards.context import GateContext, JournalView
from indexpilot_tui.errors import NotInstalledError


def need_journal(ctx: GateContext) -> JournalView:
    """The journal. Raises NotInstalledError without one: then nothing can be counted, so nothing may start."""
    if ctx.journal is None:
        raise NotInstalledError(
            "there is no control schema that this login may use",
            remedy="install it with the output of `indexpilot setup-sql`, then GRANT indexpilot_operator to the login",
        )
    return ctx.journal
