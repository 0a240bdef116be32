"""`indexpilot changes rollback` and `resolve`: taking a change back, and settling one that needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.change_output import follow, operate, show_change
from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import say
from indexpilot_tui.errors import OK, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine

CHOICES = {
    "finish": "Carry it on: drop a half-dropped index, build the partitions that are left.",
    "repair": "Have a half-dropped index back: it is built anew (REINDEX CONCURRENTLY).",
    "clean": "Remove what the change left behind.",
    "verify": "Read the catalog again: the index is there as planned.",
    "fail": "Close it as failed; nothing is done to the database.",
    "done": "Close it as done; nothing is done to the database.",
}


@click.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def rollback(change_id: int, target: str | None, reason: str, detach: bool, common: Common) -> int:
    """Take a change back: a change of its own, covered by the first one's approval for a day."""

    async def work(engine: Engine) -> int:
        return await follow(engine, common, await engine.rollback(change_id, reason), detach, 0)

    return operate(common, target, work)


@click.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@click.option("--finish", "choice", flag_value="finish", help=CHOICES["finish"])
@click.option("--repair", "choice", flag_value="repair", help=CHOICES["repair"])
@click.option("--clean", "choice", flag_value="clean", help=CHOICES["clean"])
@click.option("--verify", "choice", flag_value="verify", help=CHOICES["verify"])
@click.option("--fail", "choice", flag_value="fail", help=CHOICES["fail"])
@click.option("--done", "choice", flag_value="done", help=CHOICES["done"])
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def resolve(change_id: int, target: str | None, choice: str | None, reason: str, detach: bool, common: Common) -> int:
    """Settle a change that needs an operator: an approver decides who neither proposed nor ran it. What the decision asks
    for is carried out at once where this login may, else at the next start of an operator's."""
    if choice is None:
        raise UsageError(
            "say how the change is settled", field="resolve", remedy=f"one of {', '.join('--' + name for name in CHOICES)}"
        )

    async def work(engine: Engine) -> int:
        seen = max((e.seq for e in (await engine.change(change_id)).events), default=0)
        change = await engine.resolve(change_id, choice, reason)
        if change.ended:
            show_change(common, change)
            return OK
        if not engine.may_carry_out:
            show_change(common, change)
            say(f"decided; an operator's next start carries it out, or now: indexpilot changes apply {change_id}")
            return OK
        return await follow(engine, common, change, detach, seen)

    return operate(common, target, work)
