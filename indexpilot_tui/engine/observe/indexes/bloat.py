"""How much of an index is air: an estimate with its method and its error, or "not measured". Pure.

B-trees: the size that a rebuild would give (modelled from the statistics) against the size that is there. Other methods:
bytes a row against the best that was seen of the same index. Both are told apart, and from what pgstattuple counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.say import finding
from indexpilot_tui.engine.observe.indexes.situation import Saving
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding

MIN_BYTES = 10 * 1024 * 1024  # less air than this is not worth a rebuild
MIN_SHARE = 0.4  # a B-tree that lives has some 30 % of air: pages are 70 % full after random inserts


@dataclass(frozen=True, slots=True)
class Bloat:
    """`size_bytes` is there, `rebuilt_bytes` a rebuild would take. `error` is the method's relative error of `rebuilt_bytes`
    (0: counted). With a `reason` it was not measured, and the figures are None."""

    method: str
    size_bytes: int | None = None
    rebuilt_bytes: int | None = None
    error: float = 0.0
    reason: str = ""

    @property
    def air_bytes(self) -> int | None:
        if self.size_bytes is None or self.rebuilt_bytes is None:
            return None
        return max(0, self.size_bytes - self.rebuilt_bytes)

    @property
    def share(self) -> float | None:
        """The share (0..1) of the index that a rebuild would give back."""
        air = self.air_bytes
        return None if air is None or not self.size_bytes else air / self.size_bytes

    @property
    def least_share(self) -> float | None:
        """The same at the bad end of the error."""
        if self.size_bytes is None or self.rebuilt_bytes is None or not self.size_bytes:
            return None
        return max(0.0, 1 - self.rebuilt_bytes * (1 + self.error) / self.size_bytes)

    def in_words(self) -> str:
        """`41 % (modelled, ±15 %)`, or why not."""
        if self.share is None:
            return f"not measured: {self.reason}" if self.reason else "not measured"
        error = f", ±{self.error:.0%}" if self.error else ""
        return f"{self.share:.0%} ({self.method}{error})"


def bloated(index: IndexFacts, bloat: Bloat) -> Iterable[HealthFinding]:
    """A finding where even at the bad end of the error a rebuild is worth it."""
    share, air = bloat.least_share, bloat.air_bytes
    if share is None or air is None or share < MIN_SHARE or air < MIN_BYTES or not index.usable:
        return
    yield finding(
        index,
        FindingKind.BLOATED,
        "warning",
        f"{bloat.in_words()} of it is air: {_mib(bloat.size_bytes)} now, {_mib(bloat.rebuilt_bytes)} after a rebuild",
        risk="a rebuild needs room for a second copy and waits for old transactions",
        fix=index.rebuild_ddl(),
        saves=Saving(air, 0.0),
    )


def _mib(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1024**2:,.1f} MiB"
