"""Rules on the indexes that are there, and on those that a foreign key lacks: the findings of index health, by kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from indexpilot_tui.check.context import CheckContext, Rule, critical, ok, unknown, warning
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding
from indexpilot_tui.errors import ServerError


def evidence_of(finding: HealthFinding) -> dict[str, Any]:
    """One finding as plain data; its fix stays raw, to be executed."""
    return {
        "index": finding.index,
        "table": finding.table,
        "severity": finding.severity,
        "size_bytes": finding.size_bytes,
        "scans": finding.scans,
        "evidence": finding.evidence,
        "risk": finding.risk,
        "fix": finding.fix,
    }


def _rule(kind: FindingKind, one: str, many: str, none: str) -> Callable[[CheckContext], Awaitable[Outcome]]:
    async def run(ctx: CheckContext) -> Outcome:
        health = await ctx.health()
        if kind is FindingKind.MISSING_FK:
            unread = [note for note in health.notes if note.startswith("foreign keys were not read")]
            if unread:
                raise ServerError(unread[0])
        mine = [f for f in health.findings if f.kind is kind]
        worth = [f for f in mine if f.severity != "info"]
        rest = [evidence_of(f) for f in mine if f.severity == "info"]
        locked = [note for note in health.notes if "locked exclusively" in note]
        if not worth:
            if locked:
                return unknown(f"not all could be compared: {locked[0]}", *rest, fix="look again when the lock is gone")
            return ok(none + (f" ({len(rest)} noted)" if rest else ""), *rest)
        fix = "\n".join(f.fix for f in worth if f.fix)
        names = ", ".join(f"{f.table} ({f.index})" if f.oid == 0 else f.index for f in worth[:3])
        summary = f"{len(worth)} {one if len(worth) == 1 else many}: {names}" + (", ..." if len(worth) > 3 else "")
        answer = critical if any(f.severity == "critical" for f in worth) else warning
        return answer(summary, *[evidence_of(f) for f in worth], *rest, fix=fix)

    return run


async def unused(ctx: CheckContext) -> Outcome:
    """As the others, but an index without scans in too short a window was not checked, and that is not ok."""
    outcome = await _rule(
        FindingKind.UNUSED, "index is not used", "indexes are not used", "every index that could go is used"
    )(ctx)
    health = await ctx.health()
    young = [f for f in health.findings if f.kind is FindingKind.UNUSED and not f.fix and "too short" in f.evidence]
    if outcome.fix or not young:
        return outcome
    return unknown(
        f"{len(young)} indexes had no scan, but their statistics are too young to judge",
        *[evidence_of(f) for f in young],
        fix="look again later; observe.unused_min_age_days holds the limit",
    )


RULES = (
    Rule(
        "invalid_indexes",
        "INVALID indexes",
        _rule(
            FindingKind.INVALID,
            "INVALID index was left behind",
            "INVALID indexes were left behind",
            "no INVALID index was left behind",
        ),
    ),
    Rule(
        "duplicate_indexes",
        "Duplicate indexes",
        _rule(
            FindingKind.DUPLICATE,
            "index is the duplicate of another",
            "indexes are duplicates of another",
            "no index is there twice",
        ),
    ),
    Rule(
        "left_prefix_indexes",
        "Indexes covered by a wider one",
        _rule(
            FindingKind.LEFT_PREFIX,
            "index is the left prefix of a wider one",
            "indexes are the left prefix of a wider one",
            "no index is the prefix of another",
        ),
    ),
    Rule("unused_indexes", "Unused indexes", unused),
    Rule(
        "missing_fk_indexes",
        "Foreign keys without an index",
        _rule(
            FindingKind.MISSING_FK,
            "foreign key has no index",
            "foreign keys have no index",
            "every foreign key of any size has an index",
        ),
    ),
)
