"""Logs: JSON lines, cleaned, to the file of the settings, and nothing onto a screen."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

from indexpilot_tui.engine import logs
from indexpilot_tui.errors import ConfigError
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated


def _settings(path: Path | None, level: str = "INFO") -> Settings:
    return validated(Settings, {"operational": {"structured_logging": {"log_level": level, "file": path}}})


def test_one_json_event_a_line_with_context(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.configure(_settings(path), on_screen=True)
    logs.log("change.started", change=7, target="prod\x1b[2J")
    logs.log("noise", "debug")
    (line,) = path.read_text().splitlines()
    event = json.loads(line)
    assert (event["event"], event["change"], event["level"]) == ("change.started", 7, "info")
    assert "\x1b" not in event["target"]
    assert event["timestamp"].endswith("Z")


def test_what_utf8_cannot_write_is_written_escaped(tmp_path: Path) -> None:
    """A file name can hold bytes that are no text; the log goes on."""
    path = tmp_path / "log"
    logs.configure(_settings(path), on_screen=True)
    logs.log("saved", "error", files=["a\udcff.sql"])
    logs.log("and", "error")
    first, second = path.read_text("utf-8").splitlines()
    assert json.loads(first)["files"] == ["a\udcff.sql"]
    assert json.loads(second)["event"] == "and"
    assert logs.trouble() == ""


def test_nothing_is_written_onto_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(_settings(None, "DEBUG"), on_screen=True)
    logs.log("x", "error")
    assert capfd.readouterr() == ("", "")


def test_stderr_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(_settings(None, "WARNING"), on_screen=False)
    logs.log("quiet")
    logs.log("loud", "warning")
    out, err = capfd.readouterr()
    assert out == ""
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["loud"]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"structured_logging\.file"):
        logs.configure(_settings(tmp_path), on_screen=True)


def test_a_log_that_cannot_be_written_stops_no_work_and_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(_settings(Path("/dev/full")), on_screen=False)
    assert logs.trouble() == ""
    logs.log("one")
    logs.log("two")
    assert "the log cannot be written any more (No space left on device)" in logs.trouble()
    assert capfd.readouterr().err == f"indexpilot: {logs.trouble()}\n"


def test_a_full_disk_writes_nothing_onto_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(_settings(Path("/dev/full")), on_screen=True)
    logs.log("one")
    assert logs.trouble()
    assert capfd.readouterr() == ("", "")


def test_a_stderr_that_nobody_has_open_stops_no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "gone").open("w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        logs.configure(_settings(None), on_screen=False)
    logs.log("one", "error")
    assert "closed file" in logs.trouble()


@pytest.mark.parametrize("end", ["/dev/full", None])
def test_nobody_to_be_told_stops_no_work_either(end: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = open(end, "w", buffering=1) if end else None  # noqa: SIM115 - closed below
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(_settings(Path("/dev/full")), on_screen=False)
    logs.log("one", "error")
    assert "No space left" in logs.trouble()
    if stderr is not None:
        with contextlib.suppress(OSError):
            stderr.close()
