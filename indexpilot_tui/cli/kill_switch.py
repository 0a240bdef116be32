"""`indexpilot changes stop|allow`: the row that stops all starts at once, on every console."""

from __future__ import annotations

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async
from indexpilot_tui.errors import OK


def _switch(common: Common, target: str | None, reason: str, *, stop: bool) -> int:
    async def work() -> int:
        from indexpilot_tui.engine.logs import log

        async with engine_of(common, common.settings(), target) as engine:
            journal = await engine.control.require()
            await (journal.stop_starts(reason) if stop else journal.allow_starts(reason))
            operator = journal.session.facts.session_user
            log("starts.stopped" if stop else "starts.allowed", "warning", target=engine.target.name, operator=operator)
            policy = await journal.policy()
        if common.json:
            print_json({"starts_stopped": policy.starts_stopped, "by": policy.by, "reason": policy.reason})
        else:
            stopped = f"no change starts now ({policy.by}: {policy.reason})"
            click.echo(stopped if policy.starts_stopped else "changes may start")
        return OK

    return run_async(work())


@click.command()
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log and on every console.")
@common_options
def stop(target: str | None, reason: str, common: Common) -> int:
    """Let no change start from now on, on any console (kill switch). What runs goes on under its guards; abort ends one."""
    return _switch(common, target, reason, stop=True)


@click.command()
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@common_options
def allow(target: str | None, reason: str, common: Common) -> int:
    """Let changes start again after `stop`. Approvers only."""
    return _switch(common, target, reason, stop=False)
