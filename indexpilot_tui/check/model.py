"""What a rule finds and what a run of all rules reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from indexpilot_tui.errors import CRITICAL, OK, UNKNOWN, WARNING


class RuleStatus(StrEnum):
    """unknown: the rule could not be checked; that is never ok."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


_EXIT = {
    RuleStatus.OK: OK,
    RuleStatus.WARNING: WARNING,
    RuleStatus.CRITICAL: CRITICAL,
    RuleStatus.UNKNOWN: UNKNOWN,
}
# The worst first. A known disaster outranks "could not check"; what could not be checked outranks a known nuisance,
# because there may be a disaster behind it.
_PRECEDENCE = (RuleStatus.CRITICAL, RuleStatus.UNKNOWN, RuleStatus.WARNING, RuleStatus.OK)


def worst(statuses: list[RuleStatus]) -> RuleStatus:
    """The status of the whole: critical before unknown before warning before ok. Nothing checked is unknown."""
    return next((status for status in _PRECEDENCE if status in statuses), RuleStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule found. `evidence` is plain JSON data of cleaned text and figures; `fix` is the DDL, GRANT or setting
    that would mend it, one a line, raw where it is SQL to execute (a reporter cleans it for a terminal)."""

    status: RuleStatus
    summary: str
    evidence: tuple[dict[str, Any], ...] = ()
    fix: str = ""


@dataclass(frozen=True, slots=True)
class RuleResult:
    id: str
    title: str
    status: RuleStatus
    summary: str
    evidence: tuple[dict[str, Any], ...]
    fix: str

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status.value,
            "summary": self.summary,
            "evidence": [_plain(item) for item in self.evidence],
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that has no object on this target (no control schema, so no log to verify), and why. Not a green rule."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """One target, all rules. `started_at` by our clock (UTC), `elapsed_ms` the whole run."""

    target: str
    started_at: datetime
    elapsed_ms: float
    rules: tuple[RuleResult, ...]
    skipped: tuple[Skipped, ...] = field(default=())

    @property
    def status(self) -> RuleStatus:
        return worst([rule.status for rule in self.rules])

    @property
    def exit_status(self) -> int:
        """0 ok, 1 warning, 2 critical, 3 unknown, of the worst rule; 3 as well when the target could not be reached."""
        return _EXIT[self.status]

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "target": self.target,
            "started_at": self.started_at.isoformat(),
            "elapsed_ms": round(self.elapsed_ms, 1),
            "rules": [rule.to_json() for rule in self.rules],
            "not_applicable": [{"id": s.id, "reason": s.reason} for s in self.skipped],
        }


def exit_status(reports: list[CheckReport]) -> int:
    """Of several targets: the worst one's, by the same precedence."""
    return _EXIT[worst([report.status for report in reports])]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
