"""What a run of the fault tests has shown: fault, times injected, oracle held. A plugin of tests/conftest.py.

All that the table says travels in the reports' `user_properties`, so it is the same with and without xdist:
`family` from the marker, `injected` (how often, where it is not once), `oracle` ("held", "violated: ...", "not asked: ...").
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.families import FAMILIES
from tests.servers import MUST_RUN

HELD, VIOLATED, NOT_ASKED = "held", "violated: ", "not asked: "


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "family(n, no_oracle=None): which family of faults (tests/faults/families.py)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write the family into what is reported. A family that does not exist is an error, and so is a test of another room
    that does not say why the oracle is not asked."""
    for item in items:
        for mark in item.iter_markers("family"):
            (number,) = mark.args
            if number not in FAMILIES:
                raise pytest.UsageError(f"{item.nodeid}: there is no family {number} in tests/faults/families.py")
            item.user_properties.append(("family", number))
            why = mark.kwargs.get("no_oracle")
            if why:
                item.user_properties.append(("oracle", f"{NOT_ASKED}{why}"))
            elif "tests/faults/" not in Path(item.path).as_posix():
                raise pytest.UsageError(f"{item.nodeid}: family({number}) outside tests/faults needs no_oracle='why'")


@dataclass
class Row:
    """What became of one family."""

    injected: int = 0
    asked: int = 0
    held: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    not_asked: set[str] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        parts = [f"{self.held} of {self.asked}"] if self.asked else []
        if self.not_asked:
            parts.append("not asked: " + "; ".join(sorted(self.not_asked)))
        if self.failed:
            parts.append(f"{len(self.failed)} FAILED")
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped: {self.skipped[0]}")
        return "; ".join(parts) or "-"


def rows(reports: Iterable[Any]) -> dict[int, Row]:
    """The table, from all reports of all phases. Of each test the last report knows most."""
    found: dict[str, dict[str, Any]] = {}
    for report in reports:
        properties = [tuple(p) for p in getattr(report, "user_properties", [])]
        if any(name == "family" for name, _ in properties):
            test = found.setdefault(report.nodeid, {"outcomes": {}})
            test["properties"] = properties if report.when == "teardown" else test.get("properties", properties)
            test["outcomes"][report.when] = report
    table: dict[int, Row] = {}
    for nodeid, test in found.items():
        for family in (value for name, value in test["properties"] if name == "family"):
            _count(table.setdefault(family, Row()), nodeid, test)
    return table


def _count(row: Row, nodeid: str, test: dict[str, Any]) -> None:
    outcomes = test["outcomes"]
    skips = [r for r in outcomes.values() if r.skipped]
    if skips:
        reason = skips[0].longrepr[2] if isinstance(skips[0].longrepr, tuple | list) else str(skips[0].longrepr)
        row.skipped.append(str(reason).removeprefix("Skipped: "))
        return
    row.injected += sum(int(value) for name, value in test["properties"] if name == "injected") or 1
    if any(r.failed for r in outcomes.values()):
        row.failed.append(nodeid)
    for said in (str(value) for name, value in test["properties"] if name == "oracle"):
        if said.startswith(NOT_ASKED):
            row.not_asked.add(said.removeprefix(NOT_ASKED))
        else:
            row.asked += 1
            row.held += said == HELD


def _whole(config: pytest.Config) -> bool:
    """Whether this run was to have every family: nothing was deselected by name, marker or file."""
    option = config.option
    if any(getattr(option, name, None) for name in ("keyword", "markexpr", "lf", "deselect", "collectonly", "maxfail")):
        return False
    root = config.rootpath
    return any((root / arg).resolve() in (root, root / "tests", root / "tests/faults") for arg in config.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "when")]
    table = rows(reports)
    if not table:
        return
    terminalreporter.section("faults: injected, and the common oracle after each")
    terminalreporter.write_line(f"{'':>2}  {'fault':78} {'injected':>8}  oracle held")
    for number, title in FAMILIES.items():
        row = table.get(number)
        if row is None:
            if _whole(config):
                terminalreporter.write_line(f"{number:>2}  {title:78} {'missing':>8}  NO TEST", red=True)
            continue
        line = f"{number:>2}  {title:78} {row.injected:>8}  {row.verdict}"
        terminalreporter.write_line(line, red=bool(row.failed), yellow=bool(row.skipped))
    total = sum(row.injected for row in table.values())
    held, asked = sum(row.held for row in table.values()), sum(row.asked for row in table.values())
    terminalreporter.write_line(
        f"    {len(table)} of {len(FAMILIES)} families, {total} faults injected, oracle held {held} of {asked}"
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be skipped, a family without a test that ran is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        not os.environ.get(MUST_RUN)
        or reporter is None
        or hasattr(session.config, "workerinput")
        or not _whole(session.config)
    ):
        return
    table = rows(report for kind in reporter.stats.values() for report in kind if hasattr(report, "when"))
    missing = [number for number in FAMILIES if number not in table or not table[number].injected]
    if missing:
        reporter.write_line(f"families of faults without a test that ran: {missing}, although {MUST_RUN} is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
