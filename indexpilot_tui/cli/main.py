"""The command: which verb, how errors reach the operator, and which exit status they have."""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

import click

from indexpilot_tui import __version__
from indexpilot_tui.errors import OK, UNKNOWN, USAGE, IndexPilotError, defect
from indexpilot_tui.scrub import scrubbed

CONSOLE = "console"
INTERRUPTED = 130

_EPILOG = """\b
The console:   indexpilot [TARGET]      indexpilot --demo
The check:     indexpilot --check [TARGET...] [--format text|json]
TARGET is a name from the configuration, or a libpq URI or conninfo without a password.
Exit status: 0 ok, 1 warning, 2 critical or refused, 3 could not check, 64 bad usage or configuration."""


class Verbs(click.Group):
    """Verbs are loaded when used; whatever is not a verb belongs to the console (`indexpilot orders-db`)."""

    _modules: ClassVar[dict[str, tuple[str, str]]] = {
        CONSOLE: ("indexpilot_tui.cli.console", "console"),
        "simulate": ("indexpilot_tui.cli.simulate", "simulate"),
        "advise": ("indexpilot_tui.cli.advise", "advise"),
        "capture": ("indexpilot_tui.cli.capture", "capture"),
        "changes": ("indexpilot_tui.cli.changes", "changes"),
        "bypass": ("indexpilot_tui.cli.bypass", "bypass"),
        "audit": ("indexpilot_tui.cli.audit", "audit"),
        "backup": ("indexpilot_tui.cli.backup", "backup"),
        "restore": ("indexpilot_tui.cli.backup", "restore"),
        "statistics": ("indexpilot_tui.cli.statistics", "statistics"),
        "setup-sql": ("indexpilot_tui.cli.setup", "setup_sql_command"),
        "config": ("indexpilot_tui.cli.setup", "config"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        import importlib

        del ctx
        if cmd_name not in self._modules:
            return None
        module, name = self._modules[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = (*self._modules, "--help", "-h", "--version")
        if not args or args[0] not in known:
            args = [CONSOLE, *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=Verbs, epilog=_EPILOG, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--version", "show_version", is_flag=True, help="Show the version and exit.")
@click.option("--verbose", is_flag=True, help="With --version: also the programs it works with, and how they are confined.")
@click.pass_context
def cli(ctx: click.Context, show_version: bool, verbose: bool) -> None:
    """A console for PostgreSQL indexes: observe, forecast, change under safeguards, prove, roll back."""
    if not show_version:
        return
    click.echo(f"indexpilot, version {__version__}")
    if verbose:
        from indexpilot_tui.cli.versions import lines

        for line in lines():
            click.echo(line)
    ctx.exit()


def run(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status. Operator-facing errors are one message on stderr, never a traceback."""
    try:
        result: Any = cli.main(args=argv, prog_name="indexpilot", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.ctx.get_help() if exc.ctx else "", err=True)
        return USAGE
    except click.UsageError as exc:
        hint = f"\n  remedy: {exc.ctx.command_path} --help" if exc.ctx else ""
        click.echo(f"indexpilot: {scrubbed(exc.format_message())}{hint}", err=True)
        return USAGE
    except click.ClickException as exc:
        click.echo(f"indexpilot: {scrubbed(exc.format_message())}", err=True)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("indexpilot: interrupted", err=True)
        return INTERRUPTED
    except IndexPilotError as exc:
        click.echo(f"indexpilot: {exc}", err=True)
        return exc.exit_status
    except BaseExceptionGroup as group:
        own = group.subgroup(IndexPilotError)
        if own is None:
            return _defect(group)
        first = _first(own)
        click.echo(f"indexpilot: {first}", err=True)
        return first.exit_status
    except BrokenPipeError:
        # the reader of our output went away (| head): nothing more to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as exc:  # noqa: BLE001 - the last resort: an exit status of 1 would read as a mere warning
        return _defect(exc)
    return result if isinstance(result, int) else OK


def _defect(exc: BaseException) -> int:
    """An error that nothing foresaw."""
    click.echo(defect(exc), err=True)
    return UNKNOWN


def _first(group: BaseExceptionGroup[IndexPilotError]) -> IndexPilotError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
