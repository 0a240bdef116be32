"""Pane 2: what the indexes are worth, worst first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.panes.matching import Filter
from indexpilot_tui.tui.widgets.table import Column, KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import HealthFinding, IndexHealth
    from indexpilot_tui.tui.feed import Snapshot

COLUMNS = (
    Column("kind", "state", 10),
    Column("size", "size", 8, "right"),
    Column("scans", "scans", 7, "right", 48),
    Column("index", "index", 0),
    Column("table", "table", 18, "left", 64),
    Column("evidence", "evidence", 40, "left", 130),
)
MOST_ROWS = 500
WORDS = {
    "invalid": "INVALID",
    "building": "building",
    "duplicate": "duplicate",
    "left_prefix": "prefix of",
    "covered": "covered",
    "repeated_constraint": "twice",
    "unused": "unused",
    "bloated": "bloated",
    "missing_fk": "no FK idx",
}
_RANK = {"critical": 0, "warning": 1, "info": 2}
_TONE = {"critical": "crit", "warning": "warn", "info": "plain"}
_MARK = {"critical": "!", "warning": "·", "info": " "}


def key_of(finding: HealthFinding) -> tuple[str, int, int, str]:
    """What makes a finding the same in the next reading."""
    return (finding.kind.value, finding.oid, finding.table_oid, finding.index if finding.oid == 0 else "")


def _without_schema(finding: HealthFinding) -> str:
    """An index is in the schema of its table, which stands beside it."""
    schema = finding.table.split(".", maxsplit=1)[0] + "."
    return finding.index.removeprefix(schema) if "." in finding.table else finding.index


def row_of(finding: HealthFinding) -> Row:
    """One finding as a row."""
    tone = _TONE.get(finding.severity, "plain")
    return Row(
        key_of(finding),
        {
            "kind": (WORDS.get(finding.kind.value, finding.kind.value), tone),
            "size": (fmt.size(finding.size_bytes), "plain"),
            "scans": (fmt.count(finding.scans), "plain"),
            "index": (_without_schema(finding), "plain"),
            "table": (finding.table, "dim"),
            "evidence": (finding.evidence, "dim"),
        },
        (_MARK.get(finding.severity, " "), tone),
    )


class HealthPane(KeyedTable):
    """Findings; each has evidence, a risk and, where one is safe to name, the DDL that would fix it."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, empty="reading the catalog …", id="health")
        self.filter = Filter()
        self._seen: tuple[IndexHealth | None, Filter] = (None, self.filter)
        self.set_title("2 Index health")

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest findings."""
        health = snapshot.observation.health if snapshot.observation else None
        if health is None or (health is self._seen[0] and self.filter == self._seen[1]):
            return  # findings come every half minute, the clock every second
        self._seen = (health, self.filter)
        wanted = [f for f in health.findings if self.filter.accepts(f.index, f.table, f.kind.value)]
        kinds = list(WORDS)
        wanted.sort(
            key=lambda f: (
                _RANK.get(f.severity, 3),
                kinds.index(f.kind.value) if f.kind.value in WORDS else len(kinds),
                -(f.size_bytes or 0),
                f.index,
            )
        )
        many = len(wanted) - MOST_ROWS
        nothing = f"no finding matches {self.filter.text}" if health.findings else "no finding in these indexes"
        self.set_rows([row_of(f) for f in wanted[:MOST_ROWS]], empty=nothing)
        self.set_title(
            self._heading(health, len(wanted)) + (f" · the first {MOST_ROWS}, / finds the others" if many > 0 else "")
        )

    def _heading(self, health: IndexHealth, shown: int) -> str:
        found, indexes = len(health.findings), len(health.indexes)
        parts = ["2 Index health", f"{found or 'no'} finding{'' if found == 1 else 's'} in {indexes} indexes"]
        if self.filter.text:
            parts.append(f"/{self.filter.text} {shown} of {found}")
        if invalid := sum(1 for f in health.findings if f.kind.value == "invalid"):
            parts.append(f"{invalid} INVALID")
        if health.notes:
            parts.append(f"{len(health.notes)} not read")
        return " · ".join(parts)

    def finding(self, snapshot: Snapshot) -> HealthFinding | None:
        """The finding under the cursor."""
        health = snapshot.observation.health if snapshot.observation else None
        if health is None or self.selected is None:
            return None
        return next((f for f in health.findings if key_of(f) == self.selected), None)

    def set_filter(self, text: str) -> str:
        """Filter by a pattern; returns what is wrong with it, or nothing."""
        self.filter = replace(self.filter, text=text)
        self.select(None)
        return self.filter.fault
