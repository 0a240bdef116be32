"""Running the command as a user does, and reading what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import python

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


def indexpilot(*args: str, timeout: float = 120, env: dict[str, str] | None = None) -> Ran:
    """Run `indexpilot ARGS`, without loading Python again (tests/warm.py); a traceback is never acceptable."""
    return _run(python(), *args, timeout=timeout, env=env)


def indexpilot_afresh(*args: str, timeout: float = 120, env: dict[str, str] | None = None) -> Ran:
    """The same as a shell would start it."""
    return _run(sys.executable, *args, timeout=timeout, env=env)


def _run(program: str, *args: str, timeout: float, env: dict[str, str] | None) -> Ran:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DB_", "INDEXPILOT__"))}
    done = subprocess.run(
        [program, "-m", "indexpilot_tui", *args],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False, stdin=subprocess.DEVNULL,
        env=clean | (env or {}),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)
