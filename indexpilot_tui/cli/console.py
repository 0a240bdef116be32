"""`indexpilot [TARGET]`, `--demo` and `--check`: the main job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.apart import apart
from indexpilot_tui.cli.options import Common, bundle_option, common_options
from indexpilot_tui.cli.running import demo_targets, run_async, targets_of
from indexpilot_tui.errors import UsageError

if TYPE_CHECKING:
    from indexpilot_tui.check.model import CheckReport
    from indexpilot_tui.demo import Demo
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.settings import Settings, Target
    from indexpilot_tui.tui.themes import ThemeSet

FORMATS = ("text", "json")
DEMO_BANNER = "DEMO: a temporary server, generated data"


@click.command("console")
@click.argument("targets", nargs=-1, metavar="[TARGET]")
@click.option("--check", is_flag=True, help="No console: run the rules and end with 0, 1, 2 or 3.")
@click.option("--format", "output", type=click.Choice(FORMATS), help="Format of --check.  [default: text]")
@click.option("--operate", is_flag=True, help="Unlock changes; the console is read-only without it (the demo is unlocked).")
@click.option("--theme", help="Name of a theme.")
@click.option("--interval", type=float, help="Seconds between two refreshes.")
@click.option("--mouse", is_flag=True, default=None, help="Let the terminal report the mouse.")
@click.option(
    "--migration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --check: judge this SQL file against TARGET or --bundle.",
)
@click.option(
    "--workload",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --migration: statements from here in place of pg_stat_statements.",
)
@common_options
@bundle_option
def console(
    targets: tuple[str, ...], check: bool, output: str | None, operate: bool, theme: str | None, interval: float | None,
    mouse: bool | None, migration: Path | None, workload: Path | None, common: Common,
) -> int:  # fmt: skip
    """The console on TARGET, or the headless check (--check)."""
    if output is not None and not check:
        raise UsageError("belongs to --check", field="--format", value=output, remedy="add --check")
    for name, given in (("--bundle", common.bundle), ("--migration", migration)):
        if given is not None and not check:
            raise UsageError("belongs to --check", field=name, value=str(given), remedy="add --check")
    if workload is not None and migration is None:
        raise UsageError("belongs to --migration", field="--workload", value=str(workload), remedy="add --migration FILE")
    if common.demo and targets:
        raise UsageError(
            "the demo brings its own target", field="TARGET", value=targets[0], remedy="leave TARGET or --demo out"
        )
    flags = {"tui.theme": theme, "observe.interval_seconds": interval, "tui.mouse": mouse}
    if check:
        settings = common.settings(**flags)
        form = "json" if common.json and output is None else output or "text"
        if migration is not None or common.bundle is not None:
            return run_async(_check_files(targets, form, settings, common, migration, workload))
        return run_async(_check(targets, form, settings, common))
    if len(targets) > 1:
        raise UsageError("the console shows one target", field="TARGET", value=targets[1], remedy="start one console each")
    from indexpilot_tui.tui.terminal import check_terminal

    configured = apart(lambda: _configuration(common, flags))
    with suppress(UsageError):  # what is wrong with the terminal is told after what is wrong with the configuration
        check_terminal(demo=common.demo)
        import indexpilot_tui.tui.app  # noqa: F401 - half a second, in which the other process reads the configuration

    return _console(targets[0] if targets else None, operate, *configured(), common)


def _configuration(common: Common, flags: dict[str, Any]) -> tuple[Settings, ThemeSet]:
    """All that a console reads from files. What checks it takes a sixth of a console's memory: it stays elsewhere."""
    from indexpilot_tui.tui.theme_files import load_themes

    settings = common.settings(**flags)
    return settings, load_themes(settings.themes_dir)


async def _check(names: tuple[str, ...], output: str, settings: Settings, common: Common) -> int:
    from indexpilot_tui.check.model import exit_status
    from indexpilot_tui.check.report_json import report_json
    from indexpilot_tui.check.report_text import report_text
    from indexpilot_tui.check.run import check_target

    if not common.demo:
        for given in names:  # a mistyped name is told before the first server is asked
            common.target(settings, given)
    reports: list[CheckReport] = []
    for name in names or (None,):
        async with targets_of(common, settings, name) as (target, _):
            reports.append(await check_target(target, settings))
    click.echo(report_json(reports) if output == "json" else report_text(reports), nl=False)
    return exit_status(reports)


async def _check_files(
    names: tuple[str, ...], output: str, settings: Settings, common: Common, migration: Path | None, workload: Path | None
) -> int:
    """A bundle, or a migration file against a bundle or targets."""
    from indexpilot_tui.check.model import exit_status
    from indexpilot_tui.check.offline import check_bundle, check_migration
    from indexpilot_tui.check.report_json import report_json
    from indexpilot_tui.check.report_text import report_text
    from indexpilot_tui.engine.whatif.workload import read_workload_file

    statements = read_workload_file(workload) if workload is not None else None
    reports: list[CheckReport] = []
    if migration is None:
        if common.bundle is not None:
            reports.append(await check_bundle(common.bundle, settings))
    elif common.bundle is not None:
        reports.append(await check_migration(migration, settings, bundle=common.bundle, workload=statements))
    else:
        for name in names or (None,):
            async with targets_of(common, settings, name) as (target, _):
                reports.append(await check_migration(migration, settings, target=target, workload=statements))
    click.echo(report_json(reports) if output == "json" else report_text(reports), nl=False)
    return exit_status(reports)


def _console(name: str | None, operate: bool, settings: Settings, themes: ThemeSet, common: Common) -> int:
    from indexpilot_tui.engine import logs
    from indexpilot_tui.tui.terminal import check_terminal

    logs.configure(settings, on_screen=True)
    if common.demo:
        check_terminal(demo=True)
        return _demo_console(settings, themes, common)
    target = common.target(settings, name)
    check_terminal()
    from indexpilot_tui.tui.app import run_console

    return run_console(_opener(target, settings, operate), settings=settings, themes=themes, target_label=target.name)


def _opener(target: Target, settings: Settings, operate: bool) -> Callable[[Callable[[str], None]], Awaitable[Engine]]:
    async def open_engine(_: Callable[[str], None]) -> Engine:
        from indexpilot_tui.engine.engine import Engine

        return await Engine.open(target, settings, operate=operate)

    return open_engine


def _demo_console(settings: Settings, themes: ThemeSet, common: Common) -> int:
    """The demo server starts behind the first frame; it ends with the console, whatever ends the console."""
    from indexpilot_tui.tui.app import run_console

    running: list[Demo] = []

    async def open_engine(progress: Callable[[str], None]) -> Engine:
        from indexpilot_tui.demo import Demo
        from indexpilot_tui.engine.engine import Engine

        demo = await Demo.start(common.scenario, progress=progress)
        running.append(demo)
        target, second = demo_targets(demo.operator_conninfo, demo.approver_conninfo)
        return await Engine.open(target, settings, operate=True, second_login=second)

    try:
        return run_console(open_engine, settings=settings, themes=themes, target_label="demo", banner=DEMO_BANNER)
    finally:
        for demo in running:
            asyncio.run(demo.stop())
