"""The plan of the house, held by tools: import contracts, types, style, and start-up without the screen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [(str(BIN / "lint-imports"),), (str(BIN / "mypy"),), (str(BIN / "ruff"), "check", "."), (str(BIN / "ruff"), "format", "--check", ".")],
    ids=["import contracts", "mypy", "ruff check", "ruff format"],
)  # fmt: skip
def test_the_tools_agree(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def modules_after(code: str) -> set[str]:
    done = run(sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_check_never_imports_the_screen() -> None:
    code = (
        "import sys; from indexpilot_tui.cli.main import run\n"
        "assert run(['--check', 'host=127.0.0.1 port=1 dbname=x user=y']) == 3"
    )
    loaded = modules_after(code)
    assert "indexpilot_tui.check.run" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("textual", "rich", "plotext")}


def test_the_command_line_starts_light() -> None:
    loaded = modules_after("import indexpilot_tui.cli.main")
    heavy = {"textual", "plotext", "psycopg", "sqlglot", "postgast", "structlog", "pydantic"}
    assert not {name for name in loaded if name.split(".")[0] in heavy}


def test_no_module_is_a_house_of_its_own() -> None:
    sizes = {p: len(p.read_text().splitlines()) for p in (ROOT / "indexpilot_tui").rglob("*.py")}
    assert not {str(p): n for p, n in sizes.items() if n > 400}
    assert not [p for p in sizes if p.stem in ("utils", "helpers", "misc", "common")]


def test_nothing_names_a_machine_or_a_registry() -> None:
    tops = ("indexpilot_tui", "tests", "themes", ".ci")
    files = [f for top in tops for f in (ROOT / top).rglob("*")]
    files += [f for f in ROOT.glob("*") if f.is_file() and f.name != ".git"]
    pattern = re.compile(r"/(?:work|root|home/[a-z]+)/|" + "pypi" + r"\.org|files\.python" + "hosted|deb\\.debian", re.I)
    found = []
    for path in files:
        if not path.is_file() or path.suffix in (".svg", ".png", ".pyc", ".gz") or path == Path(__file__):
            continue
        found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in [pattern.search(path.read_text("utf-8", "replace"))] if m]
    assert not found


def test_plans_are_asked_for_in_one_place_on_a_target_and_in_two_on_the_shadow() -> None:
    """A text that begins with EXPLAIN, or that counts rows of a table that is put into it."""
    room = ROOT / "indexpilot_tui"
    texts = {p.relative_to(room).as_posix(): p.read_text() for p in room.rglob("*") if p.suffix in (".py", ".sql")}
    explains = re.compile(r"explain\s+\([a-z_, ]*format|^\s*explain\s+(select|analyze|verbose)", re.M)
    asking = {name for name, text in texts.items() if explains.search(text)}
    assert asking == {"engine/postgres/planner.py", "engine/whatif/plan.py", "engine/whatif/shape.py"}
    counting = {
        name for name, text in texts.items() if re.search(r"""count\(\*\)[^;]{0,200}from\s*\{\}""", text, re.S | re.I)
    }
    assert counting == {"engine/changes/duplicates.py"}
