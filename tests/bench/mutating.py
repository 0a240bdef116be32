"""A pytest plugin that tries mutants in one process: the collected tests run once as they are, and it notes which lines of
the mutated modules each of them reaches; then each mutant is put in place of its function (and of its file, for the
processes that a test starts) and the tests that reach it run, the quickest first, until one fails.

A mutant counts as killed only when the same test passes again without it. Started by tests/bench/mutation.py."""

from __future__ import annotations

import ast
import gc
import json
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.bench.mutants import Mutant, mutants
from tests.bench.mutation import JOB, NEVER, NOT_RUN

NEVER_S = 30.0  # a test has 10


class Reached:
    """Which lines of the modules run while a test runs, by the interpreter's own trace."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.lines = files, set[tuple[str, int]]()

    def _call(self, frame: types.FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        module = self.files.get(frame.f_code.co_filename)
        if module is None:
            return None

        def line(frame: types.FrameType, event: str, arg: object) -> Callable[..., Any]:
            self.lines.add((module, frame.f_lineno))
            return line

        return line(frame, event, arg)

    @contextmanager
    def noting(self) -> Iterator[set[tuple[str, int]]]:
        self.lines = set()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield self.lines
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


@contextmanager
def in_place(root: Path, mutant: Mutant) -> Iterator[bool]:
    """The mutant instead of the module; False when that cannot be done in a process that has imported it."""
    file = root / mutant.module
    original = file.read_text()
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(file))
    undo: list[Callable[[], object]] = [lambda: file.write_text(original)]
    file.write_text(mutant.source)
    try:
        if mutant.function:
            yield _functions(file, mutant, undo)
        else:
            yield _constant(module, mutant, undo)
    finally:
        for step in undo:
            step()


def _functions(file: Path, mutant: Mutant, undo: list[Callable[[], object]]) -> bool:
    new = {(c.co_qualname, c.co_firstlineno): c for c in _codes(compile(mutant.source, str(file), "exec"))}
    changed = False
    for thing in _defined(str(file)):
        old = thing.__code__
        code = new.get((old.co_qualname, old.co_firstlineno))
        if code is not None and code != old:
            undo.append(lambda thing=thing, old=old: setattr(thing, "__code__", old))  # type: ignore[misc]
            thing.__code__ = code
            changed = True
    return changed


@cache
def _defined(file: str) -> list[types.FunctionType]:
    """Every function of a module that is imported by now, wherever it is held; made once its tests have run."""
    found = (thing for thing in gc.get_objects() if isinstance(thing, types.FunctionType))
    return [function for function in found if function.__code__.co_filename == file]


def _constant(module: types.ModuleType, mutant: Mutant, undo: list[Callable[[], object]]) -> bool:
    """A constant of the module, wherever it was imported to by its name."""
    body = ast.parse(mutant.source).body
    made = next((s for s in body if s.lineno <= mutant.line <= (s.end_lineno or 0)), None)
    if not isinstance(made, ast.Assign):
        return False
    namespace = dict(vars(module))
    exec(compile(ast.Module([made], []), str(module.__file__), "exec"), namespace)
    names = [n.id for t in made.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    for name in names:
        old = vars(module)[name]
        for place in list(sys.modules.values()):
            if vars(place).get(name) is old:
                undo.append(lambda place=place, name=name, old=old: setattr(place, name, old))  # type: ignore[misc]
                setattr(place, name, namespace[name])
    return bool(names)


class Mutating:
    """Runs the collected tests in its own way; a line of JSON for each mutant goes to the job's file."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.root = Path(job["root"])
        self.modules: dict[str, list[str]] = job["modules"]  # module -> files of tests
        self.skip = {tuple(key) for key in job["skip"]}
        self.answers = Path(job["answers"])
        self.tests: dict[str, pytest.Item] = {}
        self.seconds: dict[str, float] = {}
        self.reach: dict[str, set[tuple[str, int]]] = {}
        self.outcome: list[pytest.TestReport] = []
        self.now: tuple[Mutant, str] | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.outcome.append(report)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        # one that draws at random is no steady judge
        steady = [item for item in session.items if not getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]
        self.tests = {item.nodeid: item for item in steady}
        self._unmutated()
        for module, named in self.modules.items():
            for mutant in mutants(self.root, module):
                if mutant.key in self.skip:
                    continue
                started = time.monotonic()
                killer = self._try(mutant, self._order(mutant, named))
                seconds = round(time.monotonic() - started, 2)
                self._say({"key": mutant.key, "line": mutant.line, "killer": killer, "seconds": seconds})
        return True

    def _unmutated(self) -> None:
        files = {str(self.root / module): module for module in self.modules}
        reached = Reached(files)
        broken: dict[str, str] = {}
        for nodeid, item in self.tests.items():
            started = time.monotonic()
            with reached.noting() as lines:
                passed = self._run(item)
            self.seconds[nodeid] = time.monotonic() - started
            self.reach[nodeid] = set(lines)
            if not passed:
                broken[nodeid] = f"{nodeid}: {self._why()}"
        seconds = round(sum(self.seconds.values()), 1)
        self._say({"tests": len(self.tests), "seconds": seconds, "broken": list(broken.values())})
        for nodeid in broken:
            del self.tests[nodeid]

    def _order(self, mutant: Mutant, named: list[str]) -> list[str]:
        """The tests that may tell: those that reach its statement, the quickest first."""
        first, last = mutant.lines
        here = {(mutant.module, line) for line in range(first, last + 1)}
        ours = [n for n in self.tests if n.startswith(tuple(named))]
        if mutant.function:
            found = {n for n in ours if here & self.reach[n]}
        else:
            found = {n for n in ours if any(module == mutant.module for module, _ in self.reach[n])}
        return sorted(found, key=self.seconds.__getitem__)

    def _try(self, mutant: Mutant, order: list[str]) -> str:
        """The test that fails with it, "" when it survives."""
        if not order:
            return ""
        for attempt in order:
            with in_place(self.root, mutant) as put:
                if not put:
                    return NOT_RUN
                self.now = mutant, attempt
                watch = threading.Timer(NEVER_S, self._never, (mutant, attempt))
                watch.daemon = True
                watch.start()
                passed = self._run(self.tests[attempt])
                watch.cancel()
                self.now = None
            if passed:
                continue
            if self._run(self.tests[attempt]):
                return attempt
            self._say({"unsteady": attempt, "after": mutant.key})
            del self.tests[attempt]
        return ""

    def pytest_internalerror(self) -> None:
        """The time-out of a test that goes round for ever can break pytest itself."""
        if self.now is not None:
            self._never(*self.now)

    def _never(self, mutant: Mutant, attempt: str) -> None:
        """Where a mutant goes round without a pause its test's time-out ends the test, and the loop of events never."""
        self._say({"key": mutant.key, "line": mutant.line, "killer": f"{attempt} never ends", "seconds": NEVER_S})
        os._exit(NEVER)

    def _run(self, item: pytest.Item) -> bool:
        self.outcome = []
        item.ihook.pytest_runtest_protocol(item=item, nextitem=item.session)  # what lives as long as the session stays
        return bool(self.outcome) and all(report.passed for report in self.outcome)

    def _why(self) -> str:
        return next((report.longreprtext[-300:] for report in self.outcome if not report.passed), "it did not run")

    def _say(self, line: dict[str, Any]) -> None:
        with self.answers.open("a") as out:
            out.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    job = os.environ.get(JOB)
    if job:
        config.pluginmanager.register(Mutating(json.loads(Path(job).read_text())), "mutating")
