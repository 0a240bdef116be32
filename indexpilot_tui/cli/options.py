"""What every verb shares: its options, the settings they make, and the target that they mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from indexpilot_tui.errors import UsageError
from indexpilot_tui.settings import Settings, Target
from indexpilot_tui.settings.model import Environment

F = TypeVar("F", bound=Callable[..., Any])

_ENVIRONMENTS = ("production", "staging", "development")
# libpq's own variables that name a server: with one of them set, no TARGET is needed (as with psql)
_LIBPQ_NAMES = ("PGHOST", "PGSERVICE", "PGDATABASE", "PGHOSTADDR")


@dataclass(frozen=True, slots=True)
class Common:
    """The shared options as given."""

    config: Path | None
    demo: bool
    scenario: str
    environment: Environment | None
    json: bool
    bundle: Path | None = None

    def settings(self, **flags: Any) -> Settings:
        """The effective settings; in the demo those that would keep a first-time user waiting are made short."""
        from indexpilot_tui.settings.load import load_settings

        loaded = load_settings(self.config, flags=flags)
        return _demo_settings(loaded) if self.demo else loaded

    def target(self, settings: Settings, name: str | None) -> Target:
        """The target that `name` means: a configured one, a URI or conninfo, or the default."""
        found = resolve_target(settings, name)
        if self.environment is None:
            return found
        if any(found is target for target in settings.targets.values()):
            raise UsageError(
                f"the target {found.name} has its environment from the configuration: no flag weakens it",
                field="--environment", value=self.environment,
                remedy=f"change targets.{found.name}.environment there",
            )  # fmt: skip
        if self.environment != "production":
            _not_a_named_one(settings, found, self.environment)
        return replace(found, environment=self.environment)


def common_options(function: F) -> F:
    """`--config --json --demo --scenario --environment`, handed to the verb as one `common` argument."""
    import functools

    @click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Configuration file (YAML).")
    @click.option("--demo", is_flag=True, help="A temporary embedded server with a sample shop and a live workload.")
    @click.option("--scenario", type=click.Choice(["small", "medium", "stress"]), default="small", show_default=True,
                  help="Size of the demo.")  # fmt: skip
    @click.option("--environment", type=click.Choice(_ENVIRONMENTS),
                  help="What a TARGET given as URI is; production unless told otherwise.")  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help="Result as JSON on stdout.")
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        config: Path | None,
        demo: bool,
        scenario: str,
        environment: Environment | None,
        as_json: bool,
        **kwargs: Any,
    ) -> Any:
        return function(*args, common=Common(config, demo, scenario, environment, as_json), **kwargs)

    return wrapper  # type: ignore[return-value]


def bundle_option(function: F) -> F:
    """`--bundle FILE` beside `common_options`, for a verb that only reads: `common.bundle` then is the file."""
    import functools

    @click.option("--bundle", type=click.Path(path_type=Path, dir_okay=False),
                  help="A captured target (indexpilot capture) in place of TARGET.")  # fmt: skip
    @functools.wraps(function)
    def wrapper(*args: Any, common: Common, bundle: Path | None, **kwargs: Any) -> Any:
        target = kwargs.get("target") or kwargs.get("targets")
        if bundle is not None and (target or common.demo):
            raise UsageError(
                "a bundle stands in place of a target", field="--bundle", value=str(bundle),
                remedy="leave TARGET and --demo out",
            )  # fmt: skip
        return function(*args, common=replace(common, bundle=bundle), **kwargs)

    return wrapper  # type: ignore[return-value]


def resolve_target(settings: Settings, name: str | None) -> Target:
    """Raises UsageError that lists the configured names when `name` is none of them and no conninfo either."""
    known = ", ".join(sorted(settings.targets)) or "none are configured"
    if name:
        if name in settings.targets:
            return settings.targets[name]
        if "://" in name or "=" in name:
            from indexpilot_tui.engine.postgres.conninfo import parse_dsn, refuse_secrets

            params = parse_dsn(name, field="TARGET")
            refuse_secrets(params, field="TARGET")
            label = f"{params.get('host') or params.get('service') or 'local'}/{params.get('dbname') or ''}".rstrip("/")
            return Target(name=label, dsn=name)
        raise UsageError(
            "there is no target of this name", field="TARGET", value=name, remedy=f"targets: {known}; or give a libpq URI"
        )
    if settings.default_target:
        return settings.targets[settings.default_target]
    if "default" in settings.targets:
        return settings.targets["default"]
    if len(settings.targets) == 1:
        return next(iter(settings.targets.values()))
    named = [variable for variable in _LIBPQ_NAMES if os.environ.get(variable)]
    if named:
        return Target(name=os.environ[named[0]])
    raise UsageError(
        "no target was given, and none is the default", field="TARGET", remedy=f"targets: {known}; or try indexpilot --demo"
    )


def _not_a_named_one(settings: Settings, given: Target, environment: str) -> None:
    """A URI for what the configuration calls a production database is no way around its name."""
    from indexpilot_tui.engine.postgres.conninfo import places

    for target in settings.targets.values():
        if target.production and not places(given).isdisjoint(places(target)):
            raise UsageError(
                f"this is the database of the target {target.name}, which is a production one: no flag weakens it",
                field="--environment", value=environment, remedy=f"name the target: {target.name}",
            )  # fmt: skip


def _demo_settings(settings: Settings) -> Settings:
    """The demo is open at any hour and looks for proof after seconds, unless the configuration says otherwise."""
    defaults = {
        "production_safeguards.maintenance_window.enabled": False,
        "rate_limiter.index_creation.max_requests": 60,
        "verification.window_seconds": 20.0,
        "observe.health_interval_seconds": 10.0,
        "observe.unused_min_age_days": 0.0,
        "bypass.emergency.enabled": True,
    }
    made, origins = settings, dict(settings.origins)
    for key, value in defaults.items():
        if key not in settings.origins:
            made = _with(made, key.split("."), value)
            origins[key] = "demo"
    return replace(made, origins=origins)


def _with(section: Any, path: list[str], value: Any) -> Any:
    """The section with another value at `path`."""
    first, *rest = path
    return replace(section, **{first: _with(getattr(section, first), rest, value) if rest else value})
