"""A defect of ours: one message, the status of "could not check", and a traceback for who asks for it."""

from __future__ import annotations

import pytest

from indexpilot_tui import errors
from indexpilot_tui.cli import main


@pytest.mark.parametrize("error", [KeyError(1259), ExceptionGroup("both", [ValueError("a"), OSError("b")])])
def test_a_defect_is_told_as_one_and_is_no_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> str:
        raise error

    monkeypatch.setattr("indexpilot_tui.engine.journal.setup.setup_sql", broken)
    assert main.run(["setup-sql"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert f"defect of IndexPilot: {type(error).__name__}" in told.err
    assert "Traceback" not in told.err
    monkeypatch.setenv(errors.TRACEBACK, "1")
    assert main.run(["setup-sql"]) == 3
    assert "Traceback" in capsys.readouterr().err
