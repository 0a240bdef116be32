"""`indexpilot changes rollback`, `rehearse` and `resolve`: taking a change back, and settling one that needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.change_output import follow, operate, show_change, shown
from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import CRITICAL, OK, UNKNOWN, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.engine.model.wayback import WayBack

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
@click.option("--plan", "plan_only", is_flag=True, help="Show what was saved, cost, steps and proof; do nothing.")
@click.option("--reason", help="Why; it stands in the log. Needed to carry it out.")
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def rollback(change_id: int, target: str | None, plan_only: bool, reason: str | None, detach: bool, common: Common) -> int:
    """Take a change back: a change of its own, covered by the first one's approval for a day."""
    if plan_only:
        return _plan(common, target, change_id)
    if reason is None:
        raise UsageError(
            "a rollback needs a reason: the next shift will ask", field="--reason",
            remedy="say why in a sentence, or look first with --plan",
        )  # fmt: skip

    async def work(engine: Engine) -> int:
        return await follow(engine, common, await engine.rollback(change_id, reason), detach, 0)

    return operate(common, target, work)


def _plan(common: Common, target: str | None, change_id: int) -> int:
    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            back = await engine.way_back(change_id)
        if common.json:
            print_json(back.to_json())
        else:
            for line in way_back_lines(back):
                click.echo(line)
        return OK

    return run_async(work())


def way_back_lines(back: WayBack) -> list[str]:
    """The way back for a person."""
    what = {"drop": "drop the index", "create": "build the index again", "none": "there is no way back, and none is needed"}
    lines = [f"way back from change {back.change_id}: {what[back.kind]}"]
    if back.why_not:
        lines.append(f"  not now: {shown(back.why_not)}")
    if back.proposed is not None:
        lines.append(f"  proposed already as change {back.proposed}")
    lines += ["saved before the deed" if back.kind != "none" else "evidence"]
    lines += [f"  {label:<20} {shown(value)}" for label, value in back.saved]
    if back.kind == "none":
        return lines
    lines += ["what it costs", *_cost_lines(back)]
    lines += ["steps", *(f"  {number}. {shown(step)}" for number, step in enumerate(back.steps, 1))]
    lines += ["statements", *(f"  {shown(text)}" for text in back.statements)]
    lines += ["proof that will be asked", *(f"  {shown(text)}" for text in back.proof)]
    lines += ["approval", f"  {shown(back.covered)}", "rehearsal"]
    told = back.rehearsal
    when = f" (by {shown(told.by)} at {told.at.isoformat(timespec='seconds')})" if told is not None and told.at else ""
    lines.append(f"  {shown(told.sentence)}{when}" if told else f"  none yet: indexpilot changes rehearse {back.change_id}")
    return lines


def _cost_lines(back: WayBack) -> list[str]:
    if back.cost is None:
        frees = f"frees {back.frees_bytes:,} bytes" if back.frees_bytes is not None else "how much it frees is not known yet"
        return [f"  nothing is built; {frees}"]
    cost = back.cost
    took = "time not known" if cost.seconds is None else f"{cost.seconds[0]:.1f} to {cost.seconds[1]:.1f} s"
    figures = (
        f"{cost.size_bytes:,} bytes, {took}, {cost.wal_bytes:,} bytes of WAL, {cost.temp_bytes:,} bytes of temporary files"
    )
    return [f"  {figures}", f"  by {shown(cost.basis)}"]


@click.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@common_options
def rehearse(change_id: int, target: str | None, common: Common) -> int:
    """Carry the rollback of a change out on the shadow first: the table's definitions, the change, the way back, and every
    index compared with what it was. Nothing is written to the target; the result goes into the change's log.

    Exit status: 0 when it held, 2 when something was not as before, 3 when it could not be rehearsed."""

    async def work() -> int:
        from indexpilot_tui.engine.model.wayback import DIFFERS, HELD

        async with engine_of(common, common.settings(), target) as engine:
            done = await engine.rehearse(change_id)
        if common.json:
            print_json(done.to_json())
        else:
            click.echo(f"rehearsal of the way back from change {change_id}: {shown(done.sentence)}")
            for text, ms in done.statements:
                click.echo(f"  {ms:>8.1f} ms  {shown(text)}")
            for difference in done.differences:
                click.echo(f"  not as before: {shown(difference)}")
        if done.at is None:
            say("not recorded: this login may not write the log (indexpilot_operator)")
        return {HELD: OK, DIFFERS: CRITICAL}.get(done.result, UNKNOWN)

    return run_async(work())


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
