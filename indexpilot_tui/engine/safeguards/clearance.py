"""The token without which no DDL is sent: one plan, one server, one claim, one moment. Only this module makes it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import CLEANING_GATES, evaluate, refusals
from indexpilot_tui.errors import RefusedError

VALID_SECONDS = 8.0  # from the first question: the DDL follows the gates at once, or they are asked again
_TOKEN = object()


class ClaimView(Protocol):
    """What a clearance needs of a claim."""

    @property
    def change_id(self) -> int: ...
    @property
    def epoch(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Clearance:
    """Leave to send one deed of one plan, for `VALID_SECONDS`. `deed`: "change" (the plan's DDL), "clean" (remove our own
    INVALID leftover) or "finish" (statistics, comment and the like of an index that is valid).

    Made by `clear` and `clear_own` only: anybody else lacks the token, and gets a RefusedError.
    """

    plan_sha256: str
    system_identifier: str
    database: str
    change_id: int
    epoch: int
    deed: str
    issued_at: float  # time.monotonic()
    token: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise RefusedError("a clearance is made by the safeguards only")

    def check(self, *, plan_sha256: str, system_identifier: str, database: str, epoch: int, deed: str) -> None:
        """Raise RefusedError unless this clearance is for exactly this and still fresh."""
        ours = (self.plan_sha256, self.system_identifier, self.database, self.epoch, self.deed)
        if ours != (plan_sha256, system_identifier, database, epoch, deed):
            raise RefusedError("this clearance is for another plan, server, database, claim or deed")
        age = time.monotonic() - self.issued_at
        if not 0 <= age <= VALID_SECONDS:
            raise RefusedError(f"this clearance is {age:.1f} s old; the gates must be asked again")


async def clear(ctx: GateContext, claim: ClaimView) -> Clearance | list[Verdict]:
    """Ask all gates once more, now that the change is claimed. A Clearance, or all verdicts when one refuses."""
    asked_at = time.monotonic()
    verdicts = await evaluate(ctx)
    return verdicts if refusals(verdicts) else _make(ctx, claim, "change", asked_at)


async def clear_own(ctx: GateContext, claim: ClaimView, deed: str) -> Clearance | list[Verdict]:
    """The same for "clean" and "finish", which touch only what this change made: the gates that nothing lifts
    (TLS, primary, direct session, privilege), at any hour and load."""
    if deed not in ("clean", "finish"):
        raise RefusedError("only the change's own index is cleaned or finished without all gates")
    asked_at = time.monotonic()
    verdicts = await evaluate(ctx, CLEANING_GATES)
    return verdicts if refusals(verdicts) else _make(ctx, claim, deed, asked_at)


def _make(ctx: GateContext, claim: ClaimView, deed: str, asked_at: float) -> Clearance:
    """Its age counts from the first question: what a gate said is not fresher than when it was asked."""
    plan = ctx.the_plan
    return Clearance(
        plan.sha256, plan.system_identifier, plan.database, claim.change_id, claim.epoch, deed, asked_at, _TOKEN
    )
