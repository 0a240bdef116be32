"""The loader: precedence, strictness, every fault at once, no secrets."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from indexpilot_tui.errors import ConfigError
from indexpilot_tui.settings.load import load_settings

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def fault(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text), env=env or {})
    assert caught.value.exit_status == 64
    return str(caught.value)


def test_the_example_is_valid_and_names_every_key() -> None:
    settings = load_settings(ROOT / "config.example.yaml", env={})
    assert "orders-prod" in settings.targets
    text = (ROOT / "config.example.yaml").read_text()

    def keys(section: Any) -> set[str]:
        found = {f.name for f in fields(section)}
        for name in set(found):
            value = getattr(section, name)
            if is_dataclass(value):
                found |= keys(value)
        return found

    missing = {k for k in keys(settings) if k != "origins" and f"{k}:" not in text}
    assert not missing


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    path = write(tmp_path, "observe: {interval_seconds: 3, health_interval_seconds: 40}\ntui: {theme: a}\n")
    env = {"INDEXPILOT__OBSERVE__INTERVAL_SECONDS": "4", "INDEXPILOT__TUI__THEME": "b"}
    settings = load_settings(path, env=env, flags={"tui.theme": "c", "tui.mouse": None})
    assert settings.observe.interval_seconds == 4
    assert settings.observe.health_interval_seconds == 40
    assert settings.tui.theme == "c"
    assert settings.origins["observe.interval_seconds"] == "environment variable INDEXPILOT__OBSERVE__INTERVAL_SECONDS"
    assert settings.origins["observe.health_interval_seconds"] == str(path)
    assert settings.origins["tui.theme"] == "command line"


def test_an_unknown_key_is_named_with_the_likely_one(tmp_path: Path) -> None:
    text = fault(tmp_path, "observe: {intervall_seconds: 3}\n")
    assert "observe.intervall_seconds: there is no such key" in text
    assert "did you mean interval_seconds?" in text
    assert "did you mean sslmode?" in fault(tmp_path, "targets: {a: {slmode: require}}\n")


def test_all_faults_come_at_once_with_their_source(tmp_path: Path) -> None:
    text = fault(
        tmp_path,
        "observe: {interval_seconds: fast}\nfoo: 1\ntargets: {a: {port: 70000}}\n",
        {"INDEXPILOT__VERIFICATION__MIN_CALLS": "1"},
    )
    for part in (
        "observe.interval_seconds = 'fast'",
        "foo: there is no such key",
        "targets.a.port = 70000",
        "verification.min_calls = 1",
    ):
        assert part in text
    assert "environment variable INDEXPILOT__VERIFICATION__MIN_CALLS" in text


@pytest.mark.parametrize(
    "text",
    [
        "targets: {a: {password: hunter2}}\n",
        "targets: {a: {dsn: 'postgresql://u:hunter2@h/d'}}\n",
        "targets: {a: {dsn: 'host=h password=hunter2'}}\n",
        "control: {dsn: 'postgresql://u:hunter2@h/d'}\n",
        "password: hunter2\n",
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    message = fault(tmp_path, text)
    assert "hunter2" not in message
    assert "password_command" in message


def test_a_mistyped_dsn_is_not_repeated(tmp_path: Path) -> None:
    message = fault(tmp_path, "targets: {a: {dsn: 'postgresql://u:hun ter2%zz@h/d'}}\n")
    assert "ter2" not in message
    assert "targets.a.dsn" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\n", "line 2"),
        ("- 1\n", "keys and values"),
        ("observe: {interval_seconds: 2}\nobserve: {}\n", "given twice"),
        ("production_safeguards: {maintenance_window: {timezone: Mars/Olympus}}\n", "IANA"),
        ("production_safeguards: {maintenance_window: {start_hour: 3, end_hour: 3}}\n", "never open"),
        ("production_safeguards: {maintenance_window: {days_of_week: [7]}}\n", "days_of_week.0 = 7"),
        ("default_target: nope\n", "no target has this name"),
        ("system: {connection_pool: {min_connections: 5, max_connections: 2}}\n", "below min_connections"),
        ("origins: {a: b}\n", "no such key"),
        ("production_safeguards: {blockers: {max_snapshot_age_seconds: .inf}}\n", "must be a finite number"),
        ("production_safeguards: {observer: {requeue_delay_seconds: 1e400}}\n", "must be a finite number"),
        ("production_safeguards: {storage_budget: {max_storage_total_mb: .nan}}\n", "must be a finite number"),
        ("tui: [a]\n", "must hold keys and values"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    assert words in fault(tmp_path, text)


def test_a_named_file_that_is_missing_is_never_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_settings(tmp_path / "nope.yaml", env={})
    with pytest.raises(ConfigError, match="INDEXPILOT_CONFIG_FILE"):
        load_settings(None, env={"INDEXPILOT_CONFIG_FILE": str(tmp_path / "nope.yaml")})


def test_the_guides_variables_define_the_target_default() -> None:
    env = {
        "ENVIRONMENT": "prod", "DB_HOST": "db1", "DB_PORT": "6432", "DB_NAME": "shop", "DB_USER": "ixp",
        "DB_PASSWORD": "hunter2", "DB_SSLMODE": "verify-full", "LOG_LEVEL": "ERROR", "MAX_CONNECTIONS": "7",
    }  # fmt: skip
    settings = load_settings(None, env=env)
    target = settings.targets["default"]
    assert (target.host, target.port, target.dbname, target.user) == ("db1", 6432, "shop", "ixp")
    assert target.production
    assert target.password_env == "DB_PASSWORD"
    assert "hunter2" not in repr(settings)
    assert settings.operational.structured_logging.log_level == "ERROR"
    assert settings.system.connection_pool.max_connections == 7


def test_common_variables_of_others_are_left_alone() -> None:
    assert not load_settings(None, env={"ENVIRONMENT": "live", "LOG_LEVEL": "chatty"}).targets


def test_names_of_metrics_and_standbys_must_be_there(tmp_path: Path) -> None:
    text = fault(
        tmp_path,
        "production_safeguards: {disk: {metric: x, tablespace_metrics: {fast: y}}, cpu_throttle: {metric: z.cpu}}\n"
        "targets: {a: {standbys: [b]}, c: {standbys: [c]}}\nmetrics: {m: {command: [true_]}}\n",
    )
    for part in (
        "production_safeguards.disk.metric = 'x': no metric has this name", "tablespace_metrics.fast = 'y'",
        "cpu_throttle.metric = 'z.cpu'", "metrics are: m", "targets.a.standbys = 'b': no other target has this name",
        "targets.c.standbys = 'c'",
    ):  # fmt: skip
        assert part in text, text
    assert "critical_replay_lag_seconds is below" in fault(
        tmp_path, "production_safeguards: {replicas: {critical_replay_lag_seconds: 5}}\n"
    )


def test_the_keys_of_the_production_guide_are_taken_as_printed(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
rate_limiter: {query: {max_requests: 1000, time_window_seconds: 60}, index_creation: {max_requests: 5, time_window_seconds: 3600}}
production_safeguards:
  maintenance_window: {enabled: true, start_hour: 2, end_hour: 6, days_of_week: [0, 1, 2, 3, 4, 5, 6]}
  write_performance: {enabled: true, max_indexes_per_table: 10, warn_indexes_per_table: 7, write_overhead_threshold: 0.2}
  cpu_throttle: {enabled: true, cpu_threshold: 75.0, cpu_cooldown: 60.0, max_cpu_during_creation: 90.0}
  storage_budget: {enabled: true, max_storage_total_mb: 10000.0, warn_threshold_pct: 80.0}
""",
    )
    settings = load_settings(path, env={})
    guards = settings.production_safeguards
    assert (settings.rate_limiter.query.max_requests, settings.rate_limiter.query.time_window_seconds) == (1000, 60)
    assert guards.cpu_throttle.enabled is True
    assert (guards.cpu_throttle.cpu_threshold, guards.cpu_throttle.cpu_cooldown) == (75, 60)
    assert guards.cpu_throttle.max_cpu_during_creation == 90
    assert (guards.write_performance.max_indexes_per_table, guards.write_performance.write_overhead_threshold) == (10, 0.2)
    assert guards.storage_budget.max_storage_total_mb == 10_000
