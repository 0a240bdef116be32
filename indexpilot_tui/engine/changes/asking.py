"""Asking the gates before a deed of a change that is claimed."""

from __future__ import annotations

from indexpilot_tui.engine.changes.settle import in_words
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import Claim
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear
from indexpilot_tui.engine.safeguards.gates import refusals


async def leave_for(work: Work, position: int | None) -> Clearance | list[Verdict]:
    """Leave for the change, or for one step of it; all verdicts when a gate refuses.

    When nothing blocks and something could not be read, all are asked once more, on sessions that are alive: one that was
    lost while the gates were asked says nothing against the change, and must not end it.
    """
    answer = await _asked(work, position)
    if isinstance(answer, Clearance):
        return answer
    found = {v.status for v in refusals(answer)}
    if Status.UNKNOWN not in found or Status.BLOCK in found:
        return answer
    await work.hold.note("gates.again", {"why": in_words(refusals(answer))})
    return await _asked(work, position)


async def _asked(work: Work, position: int | None) -> Clearance | list[Verdict]:
    context = await work.gate_context(claimed=True, position=position)
    return await clear(context, Claim(work.change.id, work.hold.epoch, work.plan, None))
