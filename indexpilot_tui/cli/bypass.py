"""`indexpilot bypass on|off|review|status`: the emergency that lifts window, rate limit and load gates for a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import OK, WARNING

if TYPE_CHECKING:
    from indexpilot_tui.engine.journal.journal import BypassRow

SCOPES = ("window", "rate", "load")


@click.group()
def bypass() -> None:
    """Lift the maintenance window, the rate limit or the load gates in an emergency, for an hour at most.

    Nothing else is lifted: not TLS, not the approval, not the log, not a guard of a running build. It ends by itself, by the
    clock of the database. A second person (an approver) reviews it within 24 hours; until that is done nobody can switch on
    another one after a day, and nobody gets more than an hour alone.
    """


@bypass.command()
@click.argument("target", required=False)
@click.option("--scope", type=click.Choice(SCOPES), multiple=True, required=True, help="What to lift; may be given again.")
@click.option("--reason", required=True, help="Why; it stands in the log and on every console.")
@click.option("--minutes", type=click.FloatRange(0, 60, min_open=True), help="How long; default: the configuration's.")
@common_options
def on(target: str | None, scope: tuple[str, ...], reason: str, minutes: float | None, common: Common) -> int:
    """Switch it on."""

    async def work() -> int:
        from indexpilot_tui.engine.emergency import switch_on

        settings = common.settings()
        async with engine_of(common, settings, target) as engine:
            journal, name = await engine.control.require(), engine.target.name
            row = await switch_on(journal, settings, name, scope, reason, None if minutes is None else minutes * 60)
        _print(common, [row])
        due = row.review_until.isoformat(timespec="minutes")
        say(f"an approver with another login reviews it by {due}: indexpilot bypass review {row.id}")
        return OK

    return run_async(work())


@bypass.command()
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--id", "bypass_id", type=int, help="Only this one; default: all that are in force.")
@common_options
def off(target: str | None, reason: str, bypass_id: int | None, common: Common) -> int:
    """Switch it off before its time. Every operator and approver may."""

    async def work() -> int:
        from indexpilot_tui.engine.emergency import switch_off

        async with engine_of(common, common.settings(), target) as engine:
            ended = await switch_off(await engine.control.require(), engine.target.name, reason, bypass_id)
        print_json({"ended": ended}) if common.json else click.echo(f"ended: {ended}")
        return OK

    return run_async(work())


@bypass.command()
@click.argument("bypass_id", type=int)
@click.argument("target", required=False)
@click.option("--note", required=True, help="What was done under it, and whether it was right; it stands in the log.")
@common_options
def review(bypass_id: int, target: str | None, note: str, common: Common) -> int:
    """Be the second person of a bypass: an approver, and not who switched it on."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            journal = await engine.control.require()
            await journal.review_bypass(bypass_id, note)
            rows = [row for row in await journal.bypasses(1_000) if row.id == bypass_id]
        _print(common, rows)
        return OK

    return run_async(work())


@bypass.command()
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@common_options
def status(target: str | None, limit: int, common: Common) -> int:
    """The newest bypasses. Exit status 1 while one is in force or its review is overdue."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            rows = await (await engine.control.require()).bypasses(limit)
        _print(common, rows)
        if not rows and not common.json:
            click.echo("there was never a bypass")
        return WARNING if any(row.in_force or row.overdue for row in rows) else OK

    return run_async(work())


def _print(common: Common, rows: list[BypassRow]) -> None:
    if common.json:
        print_json([as_json(row) for row in rows])
        return
    for row in rows:
        for text in lines_of(row):
            click.echo(text)


def as_json(row: BypassRow) -> dict[str, Any]:
    """One bypass; times are the database's."""
    return {
        "id": row.id,
        "scope": sorted(row.scope),
        "reason": row.reason,
        "by": row.by,
        "at": row.at.isoformat(),
        "until": row.until.isoformat(),
        "in_force": row.in_force,
        "ended_by": row.ended_by,
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
        "reviewed_by": row.reviewed_by,
        "review_until": row.review_until.isoformat(),
        "overdue": row.overdue,
        "uses": row.uses,
    }


def lines_of(row: BypassRow) -> list[str]:
    """One bypass for a person."""
    state = "IN FORCE" if row.in_force else f"ended by {row.ended_by}" if row.ended_by else "over"
    second = f"reviewed by {row.reviewed_by}: {row.review_note}" if row.reviewed_by else (
        f"NOT REVIEWED, overdue since {row.review_until.isoformat(timespec='minutes')}" if row.overdue
        else f"not reviewed; due by {row.review_until.isoformat(timespec='minutes')}"
    )  # fmt: skip
    return [
        f"bypass {row.id}: {state}; lifts {', '.join(sorted(row.scope))} until {row.until.isoformat(timespec='seconds')}",
        f"  by {row.by} at {row.at.isoformat(timespec='seconds')}: {row.reason}; changes started under it: {row.uses}",
        f"  {second}",
    ]
