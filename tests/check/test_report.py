"""The report as a whole: precedence, isolation of rules, both formats, and what is never imported."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from indexpilot_tui.check.context import CheckContext, Rule, ok
from indexpilot_tui.check.model import CheckReport, Outcome, RuleResult, RuleStatus, Skipped, exit_status, worst
from indexpilot_tui.check.report_json import report_json
from indexpilot_tui.check.report_text import report_text
from indexpilot_tui.check.rules import RULES
from indexpilot_tui.check.run import check_target, run_rules
from tests.check.asking import CRITICAL, OK, UNKNOWN, WARNING
from tests.engine.observe_room import SETTINGS, Place


@pytest.mark.parametrize(
    ("statuses", "total", "status"),
    [
        ([OK, OK], OK, 0),
        ([OK, WARNING], WARNING, 1),
        ([WARNING, UNKNOWN], UNKNOWN, 3),
        ([UNKNOWN, CRITICAL, WARNING], CRITICAL, 2),
        ([], UNKNOWN, 3),
    ],
)
def test_precedence(statuses: list[RuleStatus], total: RuleStatus, status: int) -> None:
    assert worst(statuses) is total
    results = tuple(RuleResult(f"r{i}", "", s, "", (), "") for i, s in enumerate(statuses))
    report = CheckReport("t", datetime.now(UTC), 1.0, results)
    assert report.exit_status == status
    assert exit_status([report]) == status


def test_of_several_targets_the_worst_counts() -> None:
    reports = [
        CheckReport("t", datetime.now(UTC), 1.0, (RuleResult("r", "", status, "", (), ""),))
        for status in (OK, UNKNOWN, WARNING)
    ]
    assert exit_status(reports) == 3
    assert len(json.loads(report_json(reports))) == 3
    assert report_text(reports).count("rules,") == 3


async def _raises(ctx: CheckContext) -> Outcome:
    raise ZeroDivisionError("a defect")


async def _hangs(ctx: CheckContext) -> Outcome:
    await asyncio.sleep(30)
    return ok("never")


async def _bad_question(ctx: CheckContext) -> Outcome:
    await ctx.session.rows("select nonsense")
    return ok("never")


async def _good(ctx: CheckContext) -> Outcome:
    return ok("fine", {"one": await ctx.session.value("select 1")})


async def test_a_rule_that_fails_is_unknown_and_stops_no_other(place: Place) -> None:
    rules = [
        Rule("a", "", _raises),
        Rule("b", "", _hangs, timeout_s=0.2),
        Rule("c", "", _bad_question),
        Rule("d", "", _good),
    ]
    async with place.session() as session:
        report = await run_rules(CheckContext(place.target(), SETTINGS, session), rules)
    assert [r.status for r in report.rules] == [UNKNOWN, UNKNOWN, UNKNOWN, OK]
    assert "ZeroDivisionError: a defect" in report.rules[0].summary
    assert "no answer within" in report.rules[1].summary
    assert "nonsense" in report.rules[2].summary
    assert report.exit_status == 3


def test_every_rule_has_a_name_of_its_own_and_there_are_enough() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES) >= 14


async def test_the_json_has_the_documented_keys(place: Place) -> None:
    report = await check_target(place.target(), SETTINGS)
    data = json.loads(report_json([report]))
    assert set(data) >= {"status", "target", "started_at", "elapsed_ms", "rules"}
    assert data["target"] == "test"
    assert datetime.fromisoformat(data["started_at"]).tzinfo is not None
    assert [rule["id"] for rule in data["rules"]] + [s["id"] for s in data["not_applicable"]]
    for rule in data["rules"]:
        assert set(rule) >= {"id", "status", "summary", "evidence", "fix"}
        assert rule["status"] in {"ok", "warning", "critical", "unknown"}
    ids = {rule["id"] for rule in data["rules"]} | {skipped["id"] for skipped in data["not_applicable"]}
    assert ids == {rule.id for rule in RULES}


def test_text_is_harmless_and_fixes_stay_whole() -> None:
    fix = "DROP INDEX CONCURRENTLY " + "x" * 200 + "\x1b]0;owned\x07"
    rule = RuleResult("r", "R", WARNING, "a summary " * 30, (), fix)
    text = report_text([CheckReport("t", datetime.now(UTC), 5.0, (rule,), (Skipped("s", "no control schema"),))], width=60)
    assert "\x1b" not in text
    assert "\x07" not in text
    (line,) = [line for line in text.splitlines() if "fix:" in line]
    assert "x" * 200 in line
    assert all(len(line) <= 60 for line in text.splitlines() if "a summary" in line)
    assert "not applicable  s: no control schema" in text


def test_the_check_imports_no_screen(check_cluster: object) -> None:
    """In a fresh interpreter: a whole check on a real server, and nothing of Textual was loaded."""
    code = """
import asyncio, sys
from indexpilot_tui.check.report_text import report_text
from indexpilot_tui.check.run import check_target
from indexpilot_tui.settings.model import Settings, Target
report = asyncio.run(check_target(Target(environment="development", dsn=sys.argv[1]), Settings()))
assert len(report.rules) > 10, report_text([report])
heavy = sorted({m.split(".")[0] for m in sys.modules} & {"textual", "rich", "plotext", "click"})
print("loaded:", heavy)
"""
    conninfo = check_cluster.conninfo()  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", code, conninfo], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "loaded: []"
