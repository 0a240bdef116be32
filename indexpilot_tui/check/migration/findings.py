"""What is found in a migration, and the rules that findings belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.check.migration.script import Step
from indexpilot_tui.check.model import RuleResult, RuleStatus, worst


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about one statement. `fix` is what to write in its place, raw; `evidence` plain data of cleaned text."""

    rule: str
    status: RuleStatus
    step: Step
    summary: str
    fix: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


# id, title, what it says when nothing is found
RULES = (
    ("migration_read", "Statements that could be read", "every statement was read"),
    ("migration_locks", "Locks", "no statement blocks traffic for longer than a moment"),
    ("migration_session", "Transactions and timeouts", "transaction blocks and lock_timeout fit the statements"),
    ("migration_names", "Names", "every name is there, or free, as the statement needs it"),
    ("migration_redundant", "Redundant indexes", "no new index is covered by another"),
    ("migration_gain", "Gain of new indexes", "every new index is used by a statement of the workload"),
    ("migration_unique", "Uniqueness", "the statistics do not speak against a new unique index"),
    ("migration_drops", "Dropped indexes", "nothing hangs on an index that is dropped"),
    ("migration_keys", "Foreign keys", "every new foreign key has an index"),
)


def results(findings: Sequence[Finding], good: Iterable[tuple[str, Step, str, dict[str, Any]]]) -> list[RuleResult]:
    """One result a rule: the worst of its findings; `good` are (rule, step, what was found in order, evidence)."""
    good = list(good)
    made: list[RuleResult] = []
    for rule, title, nothing in RULES:
        mine = [f for f in findings if f.rule == rule]
        fine = [g for g in good if g[0] == rule]
        evidence = [_evidence(f.step, f.status, f.summary, f.evidence, f.fix) for f in mine]
        evidence += [_evidence(step, RuleStatus.OK, text, data, "") for _, step, text, data in fine]
        if not mine:
            made.append(RuleResult(rule, title, RuleStatus.OK, nothing, tuple(evidence), ""))
            continue
        status = worst([f.status for f in mine])
        first = next(f for f in mine if f.status is status)
        more = f" (and {len(mine) - 1} more)" if len(mine) > 1 else ""
        fix = "\n".join(dict.fromkeys(f.fix for f in mine if f.fix))
        made.append(RuleResult(rule, title, status, f"line {first.step.line}: {first.summary}{more}", tuple(evidence), fix))
    return made


def _evidence(step: Step, status: RuleStatus, summary: str, data: dict[str, Any], fix: str) -> dict[str, Any]:
    return {
        "line": step.line, "statement": step.shown, "status": status.value, "summary": summary, **data,
        **({"fix": fix} if fix else {}),
    }  # fmt: skip
