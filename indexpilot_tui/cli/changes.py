"""`indexpilot changes ...`: the same steps as in the console, headless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.change_output import follow, operate, show_change, shown
from indexpilot_tui.cli.changes_back import rehearse, resolve, rollback
from indexpilot_tui.cli.kill_switch import allow, stop
from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import OK

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.engine.model.change import Change


@click.group()
def changes() -> None:
    """List, show, propose, approve, reject, withdraw, apply, abort, settle, take back changes; stop or allow all starts."""


for _verb in (rehearse, resolve, rollback, stop, allow):
    changes.add_command(_verb)


@changes.command("list")
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@common_options
def list_(target: str | None, limit: int, common: Common) -> int:
    """The newest changes."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            found = await engine.changes(limit)
        if common.json:
            print_json([c.to_json() for c in found])
        else:
            click.echo(f"{'id':>5}  {'state':<14}  {'kind':<7}  {'by':<16}  {'since':<25}  what")
            for c in found:
                since = c.state_since.isoformat(timespec="seconds")
                click.echo(
                    f"{c.id:>5}  {c.state.value:<14}  {c.kind:<7}  {c.requested_by:<16}  {since:<25}  {shown(c.plan.ddl)}"
                )
        return OK

    return run_async(work())


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@common_options
def show(change_id: int, target: str | None, common: Common) -> int:
    """One change with its approvals, verdicts and every event of its log."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            show_change(common, await engine.change(change_id))
        return OK

    return run_async(work())


@changes.command()
@click.argument("ddl")
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@common_options
def propose(ddl: str, target: str | None, reason: str, common: Common) -> int:
    """Propose one CREATE, DROP or REINDEX INDEX. It is done concurrently whatever the text says."""
    from indexpilot_tui.engine.postgres.ddl import parse_index_statement

    parse_index_statement(ddl)

    async def work(engine: Engine) -> int:
        change = await engine.propose(ddl, reason)
        show_change(common, change)
        say(f"proposed; another login approves it with: indexpilot changes approve {change.id}")
        return OK

    return operate(common, target, work)


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@common_options
def approve(change_id: int, target: str | None, common: Common) -> int:
    """Approve a change that somebody else proposed. The approval binds its plan, this server and a day."""

    async def work(engine: Engine) -> int:
        show_change(common, await engine.approve(change_id))
        return OK

    return operate(common, target, work)


def _with_reason(name: str, help_text: str) -> None:
    @changes.command(name, help=help_text)
    @click.argument("change_id", type=int)
    @click.argument("target", required=False)
    @click.option("--reason", required=True, help="Why; it stands in the log.")
    @common_options
    def command(change_id: int, target: str | None, reason: str, common: Common) -> int:
        async def work(engine: Engine) -> int:
            deed: Callable[[int, str], Awaitable[Change]] = getattr(engine, name)
            show_change(common, await deed(change_id, reason))
            return OK

        return operate(common, target, work)


_with_reason("reject", "Reject a change that has not started.")
_with_reason("withdraw", "Withdraw one's own change that has not started.")
_with_reason("abort", "Stop a change that is running: its build is cancelled and its leftover removed.")


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def apply(change_id: int, target: str | None, detach: bool, common: Common) -> int:
    """Carry out an approved change, and follow it until the catalog is verified."""

    async def work(engine: Engine) -> int:
        change = await engine.change(change_id)
        seen = max((e.seq for e in change.events), default=0)
        if not engine.carries_on(change):  # what the queue held has just been taken up, by opening the engine
            change = await engine.apply(change_id)
        return await follow(engine, common, change, detach, seen)

    return operate(common, target, work)
