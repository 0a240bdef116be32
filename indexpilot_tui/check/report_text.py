"""Reports as text for a terminal or a log: one line a rule, what to do below it. No colour is needed to read it."""

from __future__ import annotations

import textwrap

from indexpilot_tui.check.model import CheckReport, RuleResult, RuleStatus
from indexpilot_tui.engine.postgres.text import clean

_MARK = {
    RuleStatus.OK: "ok      ",
    RuleStatus.WARNING: "WARNING ",
    RuleStatus.CRITICAL: "CRITICAL",
    RuleStatus.UNKNOWN: "UNKNOWN ",
}


def report_text(reports: list[CheckReport], width: int = 100) -> str:
    """All reports, blank lines between them; lines are wrapped at `width` columns, fixes never are (they are to be
    copied)."""
    return "\n".join(_one(report, width) for report in reports)


def _one(report: CheckReport, width: int) -> str:
    lines = [
        f"{report.target}: {report.status.value.upper()}"
        f"  ({len(report.rules)} rules, {report.elapsed_ms / 1000:.1f} s, {report.started_at:%Y-%m-%d %H:%M:%SZ})"
    ]
    for rule in report.rules:
        lines += _rule(rule, width)
    lines += [f"  not applicable  {skipped.id}: {clean(skipped.reason)}" for skipped in report.skipped]
    return "\n".join(lines) + "\n"


def _rule(rule: RuleResult, width: int) -> list[str]:
    head = f"  {_MARK[rule.status]} {rule.id}: "
    lines = textwrap.wrap(
        clean(rule.summary), width, initial_indent=head, subsequent_indent=" " * 13, break_long_words=False
    ) or [head]
    if rule.status is not RuleStatus.OK and rule.fix:
        lines += [f"             fix: {clean(line)}" for line in rule.fix.splitlines()]
    return lines
