"""`indexpilot statistics enrol|withdraw|list`: whose column statistics are told to logins that may not read the table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import print_json, run_async, say, targets_of
from indexpilot_tui.errors import OK

if TYPE_CHECKING:
    from indexpilot_tui.engine.postgres.session import Session


@click.group()
def statistics() -> None:
    """Say whose column statistics are told to members of indexpilot_monitor who may not read the table.

    Forecasts need them; they hold single values of the columns. PATTERN is SCHEMA.TABLE, with * for any characters.
    Nobody is told of a table without some privilege on it, nor of one with row-level security unless it is enrolled by name.
    """


@asynccontextmanager
async def _session(common: Common, name: str | None) -> AsyncIterator[Session]:
    """On the target itself: its own database has the reader, wherever the control schema is."""
    from indexpilot_tui.engine.postgres.session import Purpose, session

    settings = common.settings()
    async with targets_of(common, settings, name) as (target, _), session(target, Purpose.CONTROL, settings) as opened:
        yield opened


@statistics.command()
@click.argument("pattern")
@click.argument("target", required=False)
@common_options
def enrol(pattern: str, target: str | None, common: Common) -> int:
    """Let the statistics of the tables of PATTERN be told (for an administrator)."""

    async def work() -> int:
        from indexpilot_tui.engine.journal.enrolment import enrol as do

        async with _session(common, target) as session:
            await do(session, pattern)
        say(f"enrolled: {pattern}")
        return OK

    return run_async(work())


@statistics.command()
@click.argument("pattern")
@click.argument("target", required=False)
@common_options
def withdraw(pattern: str, target: str | None, common: Common) -> int:
    """Take a pattern back (for an administrator)."""

    async def work() -> int:
        from indexpilot_tui.engine.journal.enrolment import withdraw as do

        async with _session(common, target) as session:
            await do(session, pattern)
        say(f"withdrawn: {pattern}")
        return OK

    return run_async(work())


@statistics.command("list")
@click.argument("target", required=False)
@common_options
def list_(target: str | None, common: Common) -> int:
    """The patterns that are enrolled, by whom and since when."""

    async def work() -> int:
        from indexpilot_tui.engine.journal.enrolment import enrolled

        async with _session(common, target) as session:
            found = await enrolled(session)
        if common.json:
            print_json([asdict(row) for row in found])
            return OK
        for row in found:
            policies = "  also with row-level security" if row.by_name else ""
            click.echo(f"{row.schema}.{row.table}  by {row.by} at {row.at.isoformat(timespec='seconds')}{policies}")
        if not found:
            say("no table is enrolled")
        return OK

    return run_async(work())
