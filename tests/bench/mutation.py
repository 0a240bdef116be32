"""python -m tests.bench.mutation [--keep FILE] [module ...]: does a test fail when a safeguard decides otherwise?

Mutates what decides in `engine/safeguards` and `engine/changes` (or in the modules named, like `safeguards/disk.py`), tries
each mutant against the tests that data/mutants.yaml names for its module, and lists the survivors. Those that the same file
explains are counted; one that nobody has explained ends the run with status 1, and so does an explanation of a mutant that
does not survive any more. cosmic-ray (the extra `mutation`) makes the mutants. It works on a copy: the tree is never touched."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.warm import COLD

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("data") / "mutants.yaml"
ENGINE = "indexpilot_tui/engine/"
JOB = "INDEXPILOT_MUTATION_JOB"  # path of the job's JSON, for the plugin
NEVER = 71  # its status after a mutant that never ends
NOT_RUN = "not run"  # it could not be put in place
Key = tuple[str, str, str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="like safeguards/disk.py; none: all that data/mutants.yaml names")
    parser.add_argument("--keep", type=Path, help="keep the answers here, a line of JSON each, and skip what it has already")
    options = parser.parse_args()
    data = yaml.safe_load(DATA.read_text())
    known = data["modules"]
    unknown = [m for m in options.modules if m not in known]
    if unknown:
        parser.error(f"not in {DATA.name}: {', '.join(unknown)}")
    chosen = {m: known[m] for m in options.modules or known}
    with tempfile.TemporaryDirectory() as place:
        answers = options.keep or Path(place) / "answers"
        run(chosen, answers, Path(place))
        return report(chosen, explained(data), _lines(answers))


def explained(data: dict[str, Any]) -> dict[Key, str]:
    """The survivors that somebody has looked at, and what was found."""
    found: dict[Key, str] = {}
    for group in data["explained"]:
        for module, function, before, after in group["mutants"]:
            found[(ENGINE + module, function, before, after)] = group["because"]
    return found


def run(chosen: dict[str, list[str]], answers: Path, place: Path) -> None:
    """One pytest for all of them, and another for the rest after a mutant that never ends."""
    while _run(chosen, answers, place) == NEVER:
        pass


def _run(chosen: dict[str, list[str]], answers: Path, place: Path) -> int:
    """In a copy of the tree; returns pytest's status."""
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    nothing = shutil.ignore_patterns("__pycache__", ".*", "*.svg")
    for part in ("indexpilot_tui", "tests", "themes"):
        shutil.copytree(ROOT / part, copy / part, ignore=nothing)
    for part in ("pyproject.toml", "README.md", "config.example.yaml"):
        shutil.copy(ROOT / part, copy / part)
    job = place / "job.json"
    tried = [line["key"] for line in _lines(answers) if "key" in line and line["killer"]]
    modules = {ENGINE + module: named for module, named in chosen.items()}
    job.write_text(json.dumps({"root": str(copy), "answers": str(answers.absolute()), "modules": modules, "skip": tried}))
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", JOB: str(job), COLD: "1"}
    tests = [test for named in chosen.values() for test in named]
    argv = [sys.executable, "-m", "pytest", "-p", "tests.bench.mutating", "-p", "no:cacheprovider", "-p", "no:terminal",
            "--timeout=10", "-o", "addopts=", *dict.fromkeys(tests)]  # fmt: skip
    done = subprocess.run(argv, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, NEVER):
        raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.returncode


def _lines(answers: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []


def report(chosen: dict[str, Any], reasons: dict[Key, str], lines: list[dict[str, Any]]) -> int:
    """A table by module, then what is wrong."""
    last = {tuple(line["key"]): line for line in lines if "key" in line}
    wrong: list[str] = [f"without mutation: {test} fails" for line in lines for test in line.get("broken", [])]
    wrong += [f"fails when it runs again: {line['unsteady']}" for line in lines if "unsteady" in line]
    totals = [0, 0, 0]
    print(f"{'module':36} {'mutants':>8} {'killed':>8} {'explained':>10}")
    for module in chosen:
        ours = {key: line for key, line in last.items() if key[0] == ENGINE + module}
        survivors = [key for key, line in ours.items() if line["killer"] in ("", NOT_RUN)]
        untold = [key for key in survivors if key not in reasons]
        counts = [len(ours), len(ours) - len(survivors), len(survivors) - len(untold)]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        print(f"{module:36} {counts[0]:8} {counts[1]:8} {counts[2]:10}")
        wrong += [
            f"{ours[k]['killer'] or 'survives'}: {module}:{ours[k]['line']} {k[1]}: {k[2]}   ->   {k[3]}" for k in untold
        ]
        wrong += [f"explained, but no survivor: {module} {k[1]}: {k[3]}" for k in reasons
                  if k[0] == ENGINE + module and k not in survivors]  # fmt: skip
    print(f"{'all':36} {totals[0]:8} {totals[1]:8} {totals[2]:10}")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
