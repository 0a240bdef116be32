"""`indexpilot setup-sql` and `indexpilot config show|validate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import print_json
from indexpilot_tui.errors import OK, ConfigError, IndexPilotError
from indexpilot_tui.scrub import HIDDEN, scrubbed, shown_value
from indexpilot_tui.settings import Settings
from indexpilot_tui.settings.validated import plain


@click.command("setup-sql")
@click.option("--multi-tenant", is_flag=True, help="With row-level security: tenants do not see each other's rows.")
def setup_sql_command(multi_tenant: bool) -> int:
    """Print the control schema, group roles and grants as SQL, to review and run with psql."""
    from indexpilot_tui.engine.journal.setup import setup_sql

    click.echo(setup_sql(multi_tenant=multi_tenant))
    return OK


@click.group()
def config() -> None:
    """Show and validate the effective configuration."""


def _values(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _values(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def effective(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each key with its value and its source. Where a password could have been put by mistake, and in what starts a
    program, the value is not shown."""
    values = _values({k: v for k, v in plain(settings).items() if k != "origins"})
    return {
        scrubbed(key): {"value": _fit_to_show(key, value), "source": settings.origins.get(key, "default")}
        for key, value in values
    }


def _fit_to_show(key: str, value: Any) -> Any:
    """The value itself where nothing of it has to be hidden."""
    if value is None or isinstance(value, bool | int | float | dict):
        return value
    shown = shown_value(key, value if isinstance(value, str | list) else str(value))
    if shown is None:
        return HIDDEN
    return value if shown == repr(value) else shown


@config.command()
@common_options
def show(common: Common) -> int:
    """Every effective value and where it came from."""
    values = effective(common.settings())
    if common.json:
        print_json(values)
    else:
        for key, value in values.items():
            click.echo(f"{key} = {value['value']}  ({value['source']})")
    return OK


def _connections(settings: Settings) -> None:
    """What of a connection would be refused before the login, whatever says it: the file, a URI, a service, a variable."""
    from indexpilot_tui.engine.changes.job import control_target
    from indexpilot_tui.engine.postgres import auth
    from indexpilot_tui.engine.postgres.conninfo import resolve

    faults = []
    for target in settings.targets.values():
        for asked in dict.fromkeys((target, control_target(target, settings))):
            try:
                auth.check(asked, auth.effective(resolve(asked)))
            except IndexPilotError as exc:
                faults.append(str(exc))
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))


@config.command()
@common_options
def validate(common: Common) -> int:
    """Report all faults of the configuration at once; exit status 64 when there are any."""
    settings = common.settings()
    _connections(settings)
    names = ", ".join(sorted(settings.targets)) or "none"
    if common.json:
        print_json({"valid": True, "targets": sorted(settings.targets)})
    else:
        click.echo(f"the configuration is valid; targets: {names}")
        for target in settings.targets.values():
            if target.allow_auth:
                why = scrubbed(target.allow_auth_reason) or "no reason is given (allow_auth_reason)"
                click.echo(f"  {scrubbed(target.name)} may log in by {', '.join(target.allow_auth)}, too: {why}")
    return OK
