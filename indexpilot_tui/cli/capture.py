"""`indexpilot capture [TARGET] -o FILE`: definitions, statistics and workload of a target in a file, for use without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import OK, UsageError

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.bundle.model import Bundle

_WORKLOAD = "Take the statements from here (as simulate does) in place of pg_stat_statements."


@click.command()
@click.argument("target", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@click.option("--redact", is_flag=True, help="Replace the values in statistics and the constants in statements.")
@click.option("--schema", "schemas", multiple=True, help="Only this schema and what it needs; may be given several times.")
@click.option("--workload", type=click.Path(path_type=Path, dir_okay=False), help=_WORKLOAD)
@common_options
def capture(
    target: str | None, output: Path, force: bool, redact: bool, schemas: tuple[str, ...], workload: Path | None,
    common: Common,
) -> int:  # fmt: skip
    """Write definitions, statistics and workload of TARGET to FILE (0600). No rows of tables are read.

    Statistics hold values of columns: the most common ones, and samples of the others. --redact replaces them.
    """
    if output.exists() and not force:
        raise UsageError(
            "the file is there already", field="--output", value=str(output), remedy="add --force, or another name"
        )
    return run_async(_capture(target, output, redact, schemas, workload, common))


async def _capture(
    target: str | None, output: Path, redact: bool, schemas: tuple[str, ...], workload: Path | None, common: Common
) -> int:
    from indexpilot_tui.engine.whatif.bundle.capture import CaptureOptions, capture
    from indexpilot_tui.engine.whatif.bundle.file import write_bundle
    from indexpilot_tui.engine.whatif.bundle.redact import redacted

    statements = None
    if workload is not None:
        from indexpilot_tui.engine.whatif.workload import read_workload_file

        statements = read_workload_file(workload)
    async with engine_of(common, common.settings(), target) as engine, engine.monitor() as session:
        bundle = await capture(session, CaptureOptions(schemas, statements), say)
    if redact:
        bundle = redacted(bundle)
    size = write_bundle(bundle, output)
    if common.json:
        print_json(_facts(bundle, output, size))
    else:
        for line in _lines(bundle, output, size):
            click.echo(line)
    return OK


def _facts(bundle: Bundle, output: Path, size: int) -> dict[str, object]:
    header = bundle.header
    return {
        "file": str(output),
        "file_bytes": size,
        "captured_at": header.captured_at,
        "server_version": header.server_version,
        "database": header.database,
        "relations": header.relations,
        "statements": header.statements,
        "redacted": header.redacted,
        "lost": list(header.lost),
        "read": {"statements": header.cost.statements, "ms": header.cost.ms, "bytes": header.cost.bytes},
        "notes": list(header.notes),
    }


def _lines(bundle: Bundle, output: Path, size: int) -> list[str]:
    from indexpilot_tui.engine.postgres.text import clean_line

    header = bundle.header
    workload = "no workload" if header.statements is None else f"{header.statements} statements"
    return [
        f"{output}: {size / 1e6:.2f} MB, {header.relations} relations of {clean_line(header.database)}, {workload}",
        f"  read from the target: {header.cost.statements} statements, {header.cost.ms:.0f} ms, "
        f"{header.cost.bytes / 1e6:.2f} MB; nothing was written there",
        *(f"  lost by --redact: {text}" for text in header.lost),
        *(f"  note: {text}" for text in header.notes),
        "  it holds values of columns (most common ones, histograms): keep it as you keep the data"
        if not header.redacted
        else "  names of tables and columns, and the constants in definitions, are in it as they are",
    ]
