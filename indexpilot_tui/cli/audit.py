"""`indexpilot audit show|verify|export|prune`: the mutation log, and the proof that nobody edited it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import CRITICAL, OK, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.journal.chain import ChainReport
    from indexpilot_tui.engine.journal.journal import Journal

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def audit() -> None:
    """Show, verify, export and prune the mutation log."""


@asynccontextmanager
async def _journal(common: Common, target: str | None) -> AsyncIterator[Journal]:
    async with engine_of(common, common.settings(), target) as engine:
        yield await engine.control.require()


@audit.command()
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True)
@common_options
def show(target: str | None, limit: int, common: Common) -> int:
    """The rows of the log, oldest first."""

    async def work() -> int:
        async with _journal(common, target) as journal:
            rows = await journal.events(limit=limit)
        if common.json:
            print_json([{"seq": e.seq, "at": e.at, "actor": e.actor, "action": e.action, "detail": e.detail} for e in rows])
        else:
            from indexpilot_tui.cli.change_output import brief

            for e in rows:
                click.echo(f"{e.seq:>6} {e.at.isoformat(timespec='seconds')} {e.actor} {e.action} {brief(e.detail)}")
        return OK

    return run_async(work())


@audit.command()
@click.argument("target", required=False)
@click.option("--anchor", type=_FILE, help="Heads that were kept outside (control.anchor.file): finds a cut tail.")
@click.option("--file", "export_file", type=_FILE, help="Verify an export (JSON lines) instead of a target.")
@common_options
def verify(target: str | None, anchor: Path | None, export_file: Path | None, common: Common) -> int:
    """Recompute the hash chain. Exit status 2 for a row edited, removed or reordered; with --anchor, cut off or replaced."""
    if export_file is not None and target is not None:
        raise UsageError("an export stands in place of a target", field="--file", value=str(export_file))

    async def work() -> int:
        async with _journal(common, target) as journal:
            return _report(common, await journal.verify_chain(anchor), anchored=anchor is not None)

    if export_file is None:
        return run_async(work())
    from indexpilot_tui.engine.journal.export import verify_export

    return _report(common, verify_export(export_file, anchor), anchored=anchor is not None)


def _report(common: Common, report: ChainReport, *, anchored: bool) -> int:
    if common.json:
        cut = report.cut
        print_json({
            "ok": report.ok, "rows": report.rows, "first_bad_seq": report.first_bad_seq, "reason": report.reason,
            "head": report.head, "chain_id": report.chain_id,
            "cut": {"last_seq": cut.last_seq, "at": cut.at, "by": cut.actor, "days": cut.older_than_days} if cut else None,
            "anchors": {"met": report.anchors_met, "before_cut": report.anchors_before_cut} if anchored else None,
        })  # fmt: skip
        return OK if report.ok else CRITICAL
    if report.cut is not None:
        cut = report.cut
        days = f"older than {cut.older_than_days} days"
        click.echo(f"rows up to {cut.last_seq} ({days}) were removed by {cut.actor} at {cut.at}; row {cut.seq} proves it")
    if not report.ok:
        click.echo(f"the chain is broken at row {report.first_bad_seq}: {report.reason}")
        return CRITICAL
    click.echo(f"{report.rows} rows, the chain holds; head {report.head}")
    if anchored:
        gone = f", {report.anchors_before_cut} speak of rows that were removed since" if report.anchors_before_cut else ""
        click.echo(f"{report.anchors_met} heads that were kept outside agree{gone}")
        if report.anchors_lost:
            click.echo(f"the log was restored: {report.anchors_lost} heads speak of rows that the backup did not have")
    else:
        click.echo("a tail that was cut off, or a log that was written anew, is only found with --anchor")
    return OK


@audit.command()
@click.argument("target", required=False)
@click.option("--format", "form", type=click.Choice(["jsonl", "markdown"]), default="jsonl", show_default=True,
              help="jsonl: every row as it was hashed, plain ASCII, verifiable; markdown: to be read.")  # fmt: skip
@click.option("-o", "--output", type=_FILE, help="A file, mode 0600; default: standard output.")
@common_options
def export(target: str | None, form: str, output: Path | None, common: Common) -> int:
    """The whole log, oldest row first. Texts in it are data: nothing acts on a terminal, and no markup is active."""

    async def work() -> int:
        async with _journal(common, target) as journal:
            if output is None:
                async for line in _lines(journal, form):
                    click.echo(line)
                return OK
            from indexpilot_tui.engine.files import replacing

            count = 0
            with replacing(output) as file:
                async for line in _lines(journal, form):
                    file.write(line.encode() + b"\n")
                    count += 1
            say(f"{count} lines in {output}")
        return OK

    return run_async(work())


async def _lines(journal: Journal, form: str) -> AsyncIterator[str]:
    from indexpilot_tui.engine.journal.export import json_line, markdown_head, markdown_row

    head, after = await journal.head(), 0
    if form == "markdown":
        for line in markdown_head(await journal.verify_chain() if head.whole else None):
            yield line
    while rows := await journal.log_rows(after):
        for row in rows:
            yield markdown_row(row) if form == "markdown" else json_line(row, head.chain_id)
        after = rows[-1]["seq"]


@audit.command()
@click.argument("target", required=False)
@common_options
def prune(target: str | None, common: Common) -> int:
    """Remove what is older than operational.data_retention, in small batches. The cut of the log is part of its chain.

    A console that operates does the same in the background; this is for a nightly job.
    """

    async def work() -> int:
        from indexpilot_tui.engine.journal.retention import retain, terms

        settings = common.settings()
        async with engine_of(common, settings, target) as engine:
            journal = await engine.control.require()
            kept, removed = await terms(journal, settings), await retain(journal, settings)
        if common.json:
            print_json({what: {"kept_days": kept[what], "removed": rows} for what, rows in removed.items()})
        else:
            for what, rows in removed.items():
                click.echo(f"{what}: {rows} rows older than {kept[what]} days removed")
        return OK

    return run_async(work())
