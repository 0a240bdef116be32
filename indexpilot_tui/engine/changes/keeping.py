"""Ending the observation of a change early."""

from __future__ import annotations

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import RefusedError

KEPT = "kept"


async def keep(journal: Journal, change_id: int) -> None:
    """End the observation early: the change stays, judged by what was seen so far. RefusedError unless it is observing."""
    change = await journal.change(change_id)
    if change.state is not State.OBSERVING:
        raise RefusedError(f"change {change_id} is {change.state.value}: only one that is observed can be kept")
    await journal.append(change_id, change.epoch, KEPT, {})
