"""Indexes that are not what they should be: INVALID, half dropped, or being worked on. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.say import finding
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding


def state(index: IndexFacts, situation: Situation) -> Iterable[HealthFinding]:
    """INVALID and BUILDING."""
    if index.building:
        yield finding(
            index, FindingKind.BUILDING, "info", "a session builds it now", risk="wait for the build to end", fix=""
        )
        return
    if index.valid and index.ready and index.live:
        return
    said = (("valid", index.valid), ("ready", index.ready), ("live", index.live))
    flags = ", ".join(f"{name} {'yes' if value else 'no'}" for name, value in said)
    if index.partitioned:
        yield finding(
            index,
            FindingKind.INVALID,
            "warning",
            f"the index of a partitioned table lacks the index of at least one partition ({flags})",
            risk="queries on the partitions without one do not have it",
            fix="",
        )
    elif index.busy:
        yield finding(
            index,
            FindingKind.BUILDING,
            "info",
            f"INVALID ({flags}), but a session holds the lock of a concurrent index operation on the table now",
            risk="it may be work in progress: look again when that session has ended",
            fix="",
        )
    elif situation.in_recovery:
        yield finding(
            index,
            FindingKind.INVALID,
            "info",
            f"INVALID ({flags}), seen from a standby: whether the primary works on it cannot be seen here",
            risk="look at the primary",
            fix="",
        )
    else:
        yield _left_behind(index, flags, situation)


def _left_behind(index: IndexFacts, flags: str, situation: Situation) -> HealthFinding:
    enforcing = index.unique and index.ready
    cost = "it is maintained by every write but serves no query" if index.ready else "it serves no query and takes space"
    if enforcing:
        cost += ", and being UNIQUE it still rejects writes"
    origin = "a DROP INDEX CONCURRENTLY that did not finish" if not index.live else "a build that failed or was cancelled"
    return finding(
        index,
        FindingKind.INVALID,
        "critical" if enforcing else "warning",
        f"INVALID ({flags}) and no session works on it: left by {origin}",
        risk=f"{cost}; CREATE INDEX IF NOT EXISTS would report success over it",
        fix=index.drop_ddl(),
        saves=situation.saving(index, ready=index.ready),
    )
