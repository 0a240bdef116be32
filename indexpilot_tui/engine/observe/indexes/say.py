"""Words and figures that several findings share. Pure."""

from __future__ import annotations

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.situation import Saving
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding


def finding(
    index: IndexFacts,
    kind: FindingKind,
    severity: str,
    evidence: str,
    *,
    risk: str,
    fix: str,
    saves: Saving = Saving(),  # noqa: B008 - a tuple
) -> HealthFinding:
    """A finding about one index. Evidence and risk are cleaned already, the fix stays raw."""
    return HealthFinding(
        kind=kind,
        severity=severity,
        oid=index.oid,
        table_oid=index.table_oid,
        index=index.shown,
        table=index.table_shown,
        size_bytes=index.size_bytes,
        scans=index.scans,
        evidence=evidence,
        risk=risk,
        fix=fix,
        saves_bytes=saves.bytes,
        saves_writes_per_s=saves.writes_per_s,
    )


def span(days: float) -> str:
    """A length of time in words: `14 days`, `3 hours`, `5 minutes`."""
    for unit, size in (("day", 1.0), ("hour", 1 / 24), ("minute", 1 / 1440)):
        if days >= 2 * size:
            return f"{days / size:.0f} {unit}s"
    return f"{days * 86_400:.0f} seconds"


def count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
