"""What findings are judged against: the window of the statistics, the node, the standbys, what tables went through. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts, Twins
from indexpilot_tui.engine.observe.tables import TableCounters


class Saving(NamedTuple):
    """Bytes, and index entries a second; None: not known."""

    bytes: int | None = None
    writes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class StandbyUse:
    """What one standby says of the use of the indexes; with a `reason` it says nothing."""

    name: str
    reason: str = ""
    since: datetime | None = None
    scans: Mapping[int, int] = field(default_factory=dict)
    last_scans: Mapping[int, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """Times by the server's clock. `standbys` counts connected ones; `asked` is what those named in the configuration said
    (None: none is named, so what they do is not known). `tables` are the counters of tables since `stats_since`.
    `conflicts`: (table name, columns) that statements name in ON CONFLICT, with how many do."""

    now: datetime
    stats_since: datetime | None
    in_recovery: bool
    standbys: int
    min_age_days: float
    asked: tuple[StandbyUse, ...] | None = None
    twins: Twins = field(default_factory=Twins)
    tables: Mapping[int, TableCounters] = field(default_factory=dict)
    conflicts: Mapping[tuple[str, frozenset[str]], int] = field(default_factory=dict)

    @property
    def age_days(self) -> float | None:
        """The age of the window in which this node counted scans."""
        if self.stats_since is None:
            return None
        return max(0.0, (self.now - self.stats_since).total_seconds() / 86_400)

    def scanned(self, index: IndexFacts) -> bool | None:
        """Whether any node that was asked has scanned it; None where not even this node's count is known."""
        if index.scans:
            return True
        if any(use.scans.get(index.oid) for use in self.asked or ()):
            return True
        return None if index.scans is None else False

    def saving(self, index: IndexFacts, *, ready: bool = True) -> Saving:
        """What would be saved without it: its bytes, and entries a second that need not be made any more (the table's index
        writes in the window, for a partial index its share of the rows). None where the window or the writes are not
        known."""
        if not ready:
            return Saving(index.size_bytes, 0.0)
        counters, age = self.tables.get(index.table_oid), self.age_days
        if counters is None or not age:
            return Saving(index.size_bytes, None)
        share = 1.0
        if index.has_predicate:
            share = min(1.0, index.rows / counters.live) if counters.live > 0 and index.rows >= 0 else 1.0
        return Saving(index.size_bytes, counters.index_writes * share / (age * 86_400))
