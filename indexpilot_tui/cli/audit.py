"""`indexpilot audit show|verify`: the mutation log and the proof that nobody edited it."""

from __future__ import annotations

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async
from indexpilot_tui.errors import CRITICAL, OK


@click.group()
def audit() -> None:
    """Show and verify the mutation log."""


@audit.command()
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True)
@common_options
def show(target: str | None, limit: int, common: Common) -> int:
    """The rows of the log, oldest first."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            rows = await (await engine.control.require()).events(limit=limit)
        if common.json:
            print_json([{"seq": e.seq, "at": e.at, "actor": e.actor, "action": e.action, "detail": e.detail} for e in rows])
        else:
            from indexpilot_tui.cli.change_output import brief, shown

            for e in rows:
                click.echo(
                    f"{e.seq:>6} {e.at.isoformat(timespec='seconds')} {shown(e.actor)} {shown(e.action)} {brief(e.detail)}"
                )
        return OK

    return run_async(work())


@audit.command()
@click.argument("target", required=False)
@common_options
def verify(target: str | None, common: Common) -> int:
    """Recompute the hash chain. Exit status 2 when a row was edited, removed or reordered."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            report = await (await engine.control.require()).verify_chain()
        head = "none" if report.head is None else f"row {report.head[0]}, sha256 {report.head[1]}"
        if common.json:
            print_json({"ok": report.ok, "rows": report.rows, "first_bad_seq": report.first_bad_seq, "head": report.head})
        elif report.ok:
            click.echo(f"{report.rows} rows, the chain holds; head {head}")
            click.echo("a tail that was cut off is only found by comparing the head with one kept elsewhere")
        else:
            click.echo(f"the chain is broken at row {report.first_bad_seq} of {report.rows}")
        return OK if report.ok else CRITICAL

    return run_async(work())
