"""`indexpilot backup` and `indexpilot restore`: the control schema in a file, and back into an empty one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import print_json, run_async, say, targets_of
from indexpilot_tui.cli.setup import effective
from indexpilot_tui.errors import OK, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.journal.backup_check import Checked

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("target", required=False)
@click.option("-o", "--output", type=_FILE, required=True, help="The file to write, mode 0600.")
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@common_options
def backup(target: str | None, output: Path, force: bool, common: Common) -> int:
    """Write everything that the control schema of TARGET holds, and the effective configuration, to one file.

    It is read again and its chain verified before it takes its name. Keep the SHA-256 that is printed somewhere else.
    """
    if output.exists() and not force:
        raise UsageError(
            "the file is there already", field="--output", value=str(output), remedy="add --force, or another name"
        )

    async def work() -> int:
        from indexpilot_tui.engine import logs
        from indexpilot_tui.engine.changes.job import open_journal
        from indexpilot_tui.engine.files import replacing
        from indexpilot_tui.engine.journal.backup import write_backup
        from indexpilot_tui.engine.journal.backup_check import check_backup

        settings = common.settings()
        logs.configure(settings, on_screen=False)
        found: list[Checked] = []
        async with targets_of(common, settings, target) as (place, _):
            journal = await open_journal(place, settings)
            try:
                with replacing(output, lambda written: found.append(check_backup(written))) as file:
                    await write_backup(journal, file, effective(settings))
            finally:
                await journal.close()
        _tell(common, output, found[0])
        return OK

    return run_async(work())


@click.command()
@click.argument("file", type=_FILE)
@click.argument("target", required=False)
@click.option("--anchor", type=_FILE, help="Heads that were kept outside (control.anchor.file): must agree with the backup.")
@click.option("--sha256", help="What `backup` printed: must be that of FILE.")
@click.option("--dry-run", is_flag=True, help="Check FILE, and restore nothing; no server is asked.")
@common_options
def restore(file: Path, target: str | None, anchor: Path | None, sha256: str | None, dry_run: bool, common: Common) -> int:
    """Put a backup into the empty control schema of TARGET: run setup-sql there first, and do this as a superuser.

    Afterwards no change starts until an approver runs `indexpilot changes allow`: what came after the backup is not in it.
    """
    if dry_run and target is not None:
        raise UsageError("a dry run asks no server", field="TARGET", value=target, remedy="leave TARGET out")

    async def work(checked: Checked) -> int:
        from indexpilot_tui.engine import logs
        from indexpilot_tui.engine.changes.job import open_journal
        from indexpilot_tui.engine.journal.restore import restore as put_back
        from indexpilot_tui.engine.logs import log

        settings = common.settings()
        logs.configure(settings, on_screen=False)
        async with targets_of(common, settings, target) as (place, _):
            journal = await open_journal(place, settings)
            try:
                restored = await put_back(journal, file, checked)
            finally:
                await journal.close()
        log("restored", "warning", target=place.name, operator=journal.session.facts.session_user, sha256=checked.sha256)
        _tell(common, file, checked, chain_id=restored.chain_id)
        if not common.json:
            say(f"restored; the log goes on at row {restored.seq} as chain {restored.chain_id}")
            say("no change starts until an approver has looked: indexpilot changes list, then indexpilot changes allow")
        return OK

    from indexpilot_tui.engine.journal.backup_check import check_backup

    checked = check_backup(file, anchor, sha256)
    if dry_run:
        _tell(common, file, checked)
        return OK
    return run_async(work(checked))


def _tell(common: Common, path: Path, checked: Checked, chain_id: str | None = None) -> None:
    from indexpilot_tui.engine.postgres.text import clean_line

    header = checked.header
    if common.json:
        print_json({
            "file": str(path), "sha256": checked.sha256, "taken_at": header.taken_at, "taken_by": header.taken_by,
            "system_identifier": header.system_identifier, "database": header.database, "rows": dict(checked.rows),
            "chain_id": header.chain_id, "head": [header.seq, header.hash], "log_rows_lost": checked.lost,
            "restored_as": chain_id,
        })  # fmt: skip
        return
    rows = ", ".join(f"{count} {table}" for table, count in checked.rows.items() if table not in ("policy", "chain_head"))
    click.echo(f"{path}: control schema of {clean_line(header.database)} at {header.taken_at}: {rows or 'no rows'}")
    click.echo(f"  the chain holds up to row {header.seq}, {header.hash}")
    click.echo(f"  sha256 {checked.sha256}")
    if checked.lost:
        click.echo(f"  {checked.lost} younger rows of the log are lost: a head of them was kept outside")
    elif checked.lost is None:
        click.echo("  rows that were written after it, or a log that was written anew, are only found with --anchor")
