"""A password in any place of the configuration, the environment or the command line is in nothing that is printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from indexpilot_tui.cli.main import run
from indexpilot_tui.cli.setup import effective
from indexpilot_tui.errors import ConfigError, IndexPilotError
from indexpilot_tui.scrub import scrubbed, shown_value, uri_host
from indexpilot_tui.settings.load import load_settings
from indexpilot_tui.settings.model import Settings, Target

WORD = "kanari4711"
URI = f"postgresql://olga:{WORD}@db.example.org:5432/orders"
WRONG: tuple[Any, ...] = (
    URI,
    f"postgres://olga:{WORD} x@db.example.org/orders",
    f"postgres://db.example.org/orders?user=olga&password={WORD}",
    f"host=db.example.org user=olga password={WORD}",
    f"olga:{WORD}@db.example.org",
    [URI],
    {"password": WORD},
    {"api_token": WORD, URI: 1},
)


def _sections(section: Any = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    hints = get_type_hints(section)
    names = [f.name for f in fields(section) if f.name != "origins"]
    yield path, names
    for name in names:
        if is_dataclass(hints[name]):
            yield from _sections(hints[name], (*path, name))
    if section is Settings:
        yield from _sections(Target, ("targets", "orders"))


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def _said(file: Path, env: dict[str, str] | None = None) -> str:
    """Everything that an operator could see of these settings."""
    try:
        settings = load_settings(file, env=env or {})
    except IndexPilotError as exc:
        return f"{exc} {exc.args!r} {exc.__cause__!r}"
    return repr(effective(settings))


PLACES = [(*path, key) for path, keys in _sections() for key in keys]


def test_every_key_of_the_settings_is_a_place() -> None:
    assert len(PLACES) > 120
    assert ("targets", "orders", "port") in PLACES
    assert ("default_target",) in PLACES


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_password_in_any_place_of_the_file_is_not_repeated(tmp_path: Path, wrong: Any) -> None:
    file = tmp_path / "config.yaml"
    for path in PLACES:
        file.write_text(yaml.safe_dump(_nested(path, wrong)))
        assert WORD not in _said(file), path


def test_the_value_of_no_unknown_or_secret_like_key_is_repeated(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for path, _ in _sections():
        for key in ("password", "pasword", "prot", "api_secret_key", "sslpassword", "token", "dsn2"):
            file.write_text(yaml.safe_dump(_nested((*path, key), WORD)))
            said = _said(file)
            assert WORD not in said, (path, key)
            assert key in said, (path, key)  # where it stands is told
    for key in ("password_env", "password_command"):
        file.write_text(yaml.safe_dump(_nested(("targets", "orders", key), WORD)))
        assert WORD not in _said(file), key
    file.write_text(yaml.safe_dump(_nested(("targets", "orders", "password_command"), ["vault", "read", WORD])))
    said = _said(file)
    assert WORD not in said
    assert "vault and 2 arguments" in said


@pytest.mark.parametrize("text", [
    f"targets: {{a: {{host: h, passfile: *{WORD}}}}}", f"targets: !{WORD} x", f"default_target: {URI}\n{WORD}: [", f"{URI}: 1",
    f"{URI}: 1\n{URI}: 2", f"targets: {{'{URI}': {{port: x}}}}", f"targets: {{a: {{standbys: ['{URI}']}}}}",
])  # fmt: skip
def test_nor_is_one_in_what_is_no_valid_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    said = _said(file)
    assert WORD not in said
    assert "remedy" in said


def test_a_password_in_any_variable_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    for path in [*PLACES, ("password",), ("observe", "password"), ("targets", "orders", "password")]:
        for wrong in (URI, f"{{password: {WORD}}}", f"[{URI}"):
            assert WORD not in _said(file, {"INDEXPILOT__" + "__".join(path).upper(): wrong}), path
    for variable in ("ENVIRONMENT", "DB_PORT", "DB_SSLMODE", "DB_CONNECT_TIMEOUT", "LOG_LEVEL", "MAX_CONNECTIONS"):
        assert WORD not in _said(file, {"DB_HOST": "h", variable: URI}), variable


@pytest.mark.parametrize("arguments", [
    ("--check", "TEXT"), ("TEXT",), ("simulate", "create index on t (a)", "TEXT"), ("simulate", "TEXT", "host=h"),
    ("changes", "show", "TEXT"), ("changes", "show", "1", "TEXT"), ("--check", "--format", "TEXT"), ("--config", "TEXT"),
    ("--bundle", "TEXT"), ("--no-such", "TEXT"), ("audit", "verify", "--anchor", "TEXT", "no-such"), ("--scenario", "TEXT"),
    ("advise", "--budget", "TEXT", "host=h"), ("advise", "--workload", "TEXT", "host=h"), ("config", "show", "TEXT"),
    ("restore", "TEXT"), ("bypass", "on", "TEXT"), ("TEXT", "TEXT"), ("--environment", "TEXT", "x"),
])  # fmt: skip
def test_a_password_on_the_command_line_is_not_repeated(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in WRONG[:5]:
        status = run([a.replace("TEXT", str(text)) for a in arguments])
        said = capsys.readouterr()
        assert WORD not in said.out + said.err
        assert status in (3, 64), arguments


def test_what_stays_of_a_uri() -> None:
    assert uri_host(URI) == "postgresql://db.example.org:5432"
    assert uri_host(f"postgres://u:{WORD}/with@x@[::1]:5/d") == "postgres://[::1]:5"
    assert uri_host(f"postgres://u:{WORD}") == "postgres://…"
    assert (
        scrubbed(f"could not translate host name '{URI}'")
        == "could not translate host name 'postgresql://db.example.org:5432'"
    )
    assert scrubbed(f"host=h password = '{WORD} and more' user=u") == "host=h password = … user=u"


@pytest.mark.parametrize("text", [
    "postgresql://olga@db:5432/orders?sslmode=verify-full", "password authentication failed for user \"olga\"",
    "use .pgpass, PGPASSWORD, a service file with mode 0600, or password_command", "bypass = on", "primary_key = 5",
    "targets.a.port = 'x': must be a valid integer", "12:30:00", "http://127.0.0.1:9100/metrics", "passfile=/etc/pgpass",
])  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrubbed(text) == text


def test_values_that_help_are_told() -> None:
    assert shown_value("observe.interval_seconds", "fast") == "'fast'"
    assert shown_value("targets.a.password_env", "DB_PASSWORD") == "'DB_PASSWORD'"
    assert shown_value("targets.a.password_env", WORD) is None
    assert shown_value("metrics.disk.command", ["df", "-k"]) == "df and 1 argument"
    assert shown_value("x.api_token", None) == "None"


def test_an_error_hides_what_it_was_made_of() -> None:
    error = ConfigError(f"no {URI}", field=URI, value=URI, remedy=f"not password={WORD}")
    assert WORD not in f"{error} {error!r} {error.args} {error.message}"
