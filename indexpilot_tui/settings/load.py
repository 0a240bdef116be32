"""Where the settings come from: defaults < configuration file < environment < flags. Strict, and all faults at once."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import platformdirs
import yaml

from indexpilot_tui.errors import ConfigError
from indexpilot_tui.scrub import scrubbed, shown_value
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import ValidationError, validated, what_is_wrong

ENV_PREFIX = "INDEXPILOT__"
FILE_VARIABLE = "INDEXPILOT_CONFIG_FILE"
_LIBPQ_URI = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_SECRET_KEYS = frozenset({"password", "passwd", "sslpassword", "secret", "api_secret_key"})

# The production guide's variables define the target `default`; (variable, key, inside the target?)
_GUIDE_VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ENVIRONMENT", ("targets", "default", "environment")),
    ("DB_HOST", ("targets", "default", "host")),
    ("DB_PORT", ("targets", "default", "port")),
    ("DB_NAME", ("targets", "default", "dbname")),
    ("DB_USER", ("targets", "default", "user")),
    ("DB_SSLMODE", ("targets", "default", "sslmode")),
    ("DB_CONNECT_TIMEOUT", ("targets", "default", "connect_timeout")),
    ("LOG_LEVEL", ("operational", "structured_logging", "log_level")),
    ("MAX_CONNECTIONS", ("system", "connection_pool", "max_connections")),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the configuration."""

    key: str
    value: str | None
    source: str
    message: str
    remedy: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value is not None else ""
        return f"{self.source}: {scrubbed(self.key)}{shown}: {self.message}\n  remedy: {self.remedy}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice: the second would silently win."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a list or mapping is no key", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {scrubbed(str(key))} is given twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def find_file(explicit: Path | None, env: Mapping[str, str]) -> Path | None:
    """The configuration file in force. One that was named and is not there is an error, never another file instead."""
    for source, named in (("--config", explicit), (FILE_VARIABLE, env.get(FILE_VARIABLE))):
        if named:
            path = Path(named)
            if not path.is_file():
                raise ConfigError("there is no such file", field=source, value=str(path), remedy="check the path")
            return path
    for path in (platformdirs.user_config_path("indexpilot") / "config.yaml", Path("/etc/indexpilot/config.yaml")):
        if path.is_file():
            return path
    return None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        # a subclass of SafeLoader: it builds plain values only
        data = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except OSError as exc:
        raise ConfigError(f"cannot be read ({exc})", field="--config", value=str(path), remedy="check its mode") from None
    except UnicodeDecodeError as exc:
        message = f"is not UTF-8 text (byte {exc.start})"
        raise ConfigError(message, field="--config", value=str(path), remedy="save it as UTF-8") from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        # an alias or a tag that is quoted may be a password that begins with * or !
        problem = re.sub(r"'[^']{2,}'", "…", str(getattr(exc, "problem", None) or "not valid YAML"))
        raise ConfigError(str(problem), field=place, remedy="compare with config.example.yaml") from None
    except (ValueError, RecursionError) as exc:  # a date that is none; brackets in brackets without end
        raise ConfigError(
            f"not valid YAML ({type(exc).__name__})", field=str(path), remedy="compare with config.example.yaml"
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError("the file must hold keys and values", field=str(path), remedy="compare with config.example.yaml")
    return data


def _leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, data


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        inner = data.get(key)
        if not isinstance(inner, dict):
            inner = data[key] = {}
        data = inner
    data[path[-1]] = value


def _secrets_in(data: dict[str, Any], source: str) -> list[Fault]:
    remedy = "use .pgpass, PGPASSWORD, a service file with mode 0600, or password_command"
    faults = []
    for path, value in _leaves(data):
        key = ".".join(path)
        if path and path[-1].lower() in _SECRET_KEYS:
            faults.append(Fault(key, None, source, "a secret must not stand in a configuration file", remedy))
        elif path and path[-1] != "dsn" and isinstance(value, str) and _LIBPQ_URI.match(value) and scrubbed(value) != value:
            faults.append(Fault(key, shown_value(key, value), source, "a URI with a password stands here", remedy))
        elif path and path[-1] == "dsn" and isinstance(value, str):
            from psycopg import ProgrammingError  # a fifth of a second, only for those who have a dsn
            from psycopg.conninfo import conninfo_to_dict

            try:
                params = conninfo_to_dict(value)
            except ProgrammingError:
                message = "not a valid libpq URI or conninfo string (not repeated here: it may hold a password)"
                faults.append(Fault(key, None, source, message, "write postgresql://user@host:5432/dbname"))
                continue
            if params.get("password") or params.get("sslpassword"):
                faults.append(Fault(key, None, source, "the dsn holds a password", remedy))
    return faults


def _environment(env: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values from the environment, nested, and where each came from. INDEXPILOT__A__B=x sets a.b; values are YAML."""
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for variable, path in _GUIDE_VARIABLES:
        # ENVIRONMENT and LOG_LEVEL are common names: without DB_HOST they are somebody else's
        if variable in env and (variable in ("DB_HOST",) or "DB_HOST" in env):
            value: Any = env[variable].strip()
            if variable == "ENVIRONMENT":
                value = {"prod": "production", "stage": "staging", "dev": "development"}.get(value.lower(), value.lower())
            _put(data, path, value)
            origins[".".join(path)] = f"environment variable {variable}"
    if "DB_HOST" in env and env.get("DB_PASSWORD"):
        _put(data, ("targets", "default", "password_env"), "DB_PASSWORD")
        origins["targets.default.password_env"] = "environment variable DB_PASSWORD"
    for variable in sorted(env):
        if variable.startswith(ENV_PREFIX):
            path = tuple(part.lower() for part in variable[len(ENV_PREFIX) :].split("__"))
            try:
                value = yaml.safe_load(env[variable])
            except (yaml.YAMLError, ValueError, RecursionError):
                value = env[variable]
            _put(data, path, value)
            origins[".".join(path)] = f"environment variable {variable}"
    return data, origins


def _weakened(file: Mapping[str, Any], env: Mapping[str, Any], origins: Mapping[str, str]) -> list[Fault]:
    """Variables that would make a target of the file something less than a production one: only the file may say that."""
    faults = []
    named, changed = file.get("targets"), env.get("targets")
    for name, values in (changed if isinstance(changed, dict) else {}).items():
        target = next((v for k, v in named.items() if str(k) == name), None) if isinstance(named, dict) else None
        if not isinstance(target, dict) or not isinstance(values, dict) or "environment" not in values:
            continue
        if values["environment"] not in ("production", target.get("environment", "production")):
            key = f"targets.{name}.environment"
            source = origins.get(key, "environment")
            message = "no variable weakens a target of the configuration file"
            faults.append(Fault(key, shown_value(key, values["environment"]), source, message, "say it in the file"))
    return faults


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def _known_keys(path: tuple[str, ...]) -> list[str]:
    """The keys that the model has at `path` (targets are named freely)."""
    section: Any = Settings
    for key in path:
        if section is dict:
            section = Target  # the name of a target
        elif is_dataclass(section):
            hint = get_type_hints(section).get(key)
            section = dict if section is Settings and key == "targets" else hint
        else:
            return []
    return [f.name for f in fields(section)] if is_dataclass(section) else []


def _faults(error: ValidationError, origins: Mapping[str, str]) -> list[Fault]:
    faults: list[Fault] = []
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in item["loc"])
        key = ".".join(path)
        if any(fault.key.startswith(key + ".") for fault in faults):
            continue  # what is wrong inside makes the whole wrong as well
        source = _source(path, origins)
        value = shown_value(key, item.get("input"))
        if item["type"] == "unexpected_keyword_argument":
            value = None  # what it was meant for nobody knows: a password under a mistyped key, perhaps
            close = difflib.get_close_matches(path[-1], [k for k in _known_keys(path[:-1]) if k != "origins"], 1)
            remedy = f"did you mean {close[0]}?" if close else "see config.example.yaml for the keys there are"
        else:
            remedy = "see config.example.yaml for the form of this value"
        faults.append(Fault(key, value, source, what_is_wrong(item["type"], item["msg"]), remedy))
    return faults


def _source(path: tuple[str, ...], origins: Mapping[str, str]) -> str:
    """Where a value came from, or what holds it, or, for two that contradict each other, one of them."""
    over = (".".join(path[:n]) for n in range(len(path), 0, -1))
    within = (k for k in origins if k.startswith(".".join(path) + "."))
    return next((origins[k] for k in (*over, *within) if k in origins), "defaults")


def load_settings(
    file: Path | None = None, *, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """The effective settings. `flags` maps dotted keys to values given on the command line (None: not given).

    Raises ConfigError with every fault, each with key, value, source and remedy.
    """
    environ = os.environ if env is None else env
    path = find_file(file, environ)
    from_file = _read_yaml(path) if path else {}
    origins = {".".join(k): str(path) for k, _ in _leaves(from_file) if k}
    faults = _secrets_in(from_file, str(path)) if path else []
    from_env, env_origins = _environment(environ)
    faults += _secrets_in(from_env, "environment")
    faults += _weakened(from_file, from_env, env_origins)
    data = _merge(from_file, from_env)
    origins |= env_origins
    for key, value in (flags or {}).items():
        if value is not None:
            _put(data, tuple(key.split(".")), value)
            origins[key] = "command line"
    if "origins" in data:
        faults.append(Fault("origins", None, origins.get("origins", str(path)), "there is no such key", "remove it"))
        del data["origins"]
    secret_keys = {fault.key for fault in faults}
    try:
        settings = validated(Settings, _named(data))
    except ValidationError as exc:
        faults += [f for f in _faults(exc, origins) if f.key not in secret_keys]
        settings = None
    if settings is not None and settings.default_target and settings.default_target not in settings.targets:
        known = ", ".join(sorted(settings.targets)) or "none"
        source = origins.get("default_target", "defaults")
        faults.append(
            Fault(
                "default_target",
                shown_value("default_target", settings.default_target),
                source,
                "no target has this name",
                f"targets are: {known}",
            )
        )
    if settings is not None:
        faults += _unknown_references(settings, origins)
    if faults or settings is None:
        raise ConfigError("\n".join(str(fault) for fault in faults))
    return replace(settings, origins=origins)


def _unknown_references(settings: Settings, origins: Mapping[str, str]) -> list[Fault]:
    """Names of targets and metrics that nothing in the configuration has."""
    guards = settings.production_safeguards
    wanted = [
        ("production_safeguards.cpu_throttle.metric", guards.cpu_throttle.metric),
        ("production_safeguards.disk.metric", guards.disk.metric),
        ("production_safeguards.backup.metric", guards.backup.metric),
        *((f"production_safeguards.disk.tablespace_metrics.{k}", v) for k, v in guards.disk.tablespace_metrics.items()),
    ]
    faults = []
    for key, name in wanted:
        if name is not None and name.partition(".")[0] not in settings.metrics:
            remedy = f"metrics are: {', '.join(sorted(settings.metrics)) or 'none'}"
            faults.append(
                Fault(key, shown_value(key, name), origins.get(key, "defaults"), "no metric has this name", remedy)
            )
    for target in settings.targets.values():
        key = f"targets.{target.name}.standbys"
        for name in target.standbys:
            if name not in settings.targets or name == target.name:
                remedy = f"targets are: {', '.join(sorted(settings.targets))}"
                faults.append(
                    Fault(key, shown_value(key, name), origins.get(key, "defaults"), "no other target has this name", remedy)
                )
    return faults


def _named(data: dict[str, Any]) -> dict[str, Any]:
    """Each target learns its own name."""
    targets = data.get("targets")
    if not isinstance(targets, dict):
        return data
    named = {k: {**v, "name": str(k)} if isinstance(v, dict) and "name" not in v else v for k, v in targets.items()}
    return {**data, "targets": named}
