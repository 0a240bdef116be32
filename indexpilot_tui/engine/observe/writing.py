"""How the database is written, from what is read anyway: the mean time of its writing statements between two reads of their
counters, and the share of its updates that touched no index between two reads of its tables. Pure.

Which statements write is asked for seldom, for it takes their texts. The mean is weak alone (see `writes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexpilot_tui.engine.observe.ask import Refusal, Rows
from indexpilot_tui.engine.observe.counters import Counters, Interval, Key
from indexpilot_tui.engine.observe.spots import TABLE_FIGURES
from indexpilot_tui.engine.observe.tape import Piece

_UPDATED, _HOT = TABLE_FIGURES.index("updated"), TABLE_FIGURES.index("hot_updated")


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of the interval that ended `at`; None with the `reason` where there is none. `count`: of how many."""

    value: float | None
    reason: str = ""
    at: datetime | None = None
    count: float = 0.0


@dataclass(frozen=True, slots=True)
class Writing:
    """`mean_ms` of the calls of writing statements, `hot` the share (0..1) of the updates that were HOT."""

    mean_ms: Measured
    hot: Measured


@dataclass(slots=True)
class Writers:
    """Which statements write; None until it was asked for, or why that is not known."""

    ids: frozenset[int] | None = None
    reason: str = "which statements write was not asked for yet"

    def take(self, answer: Rows | Refusal) -> None:
        """The answer to `write_statements`."""
        if isinstance(answer, Refusal):
            self.ids, self.reason = None, str(answer)
        else:
            self.ids, self.reason = frozenset(row["queryid"] for row in answer), ""


@dataclass(slots=True)
class WriteGauge:
    """The newest of both figures."""

    writers: Writers = field(default_factory=Writers)
    _mean: Measured | None = None

    def note(self, interval: Interval | None, at: datetime | None, unavailable: str) -> None:
        """The newest interval of statements and when it ended; `unavailable`: why there are none to read."""
        if unavailable or interval is None or self.writers.ids is None:
            self._mean = Measured(None, unavailable or self.writers.reason or "the counters were not read yet")
        elif interval.seconds <= 0:
            self._mean = Measured(None, interval.note or "one reading is no interval yet")
        else:
            self._mean = mean_of(interval.growth, self.writers.ids, at)

    def now(self, pieces: Iterable[Piece], tables_refused: str = "") -> Writing:
        """Both, as they stand; `pieces` are those of the tape of tables."""
        mean = self._mean or Measured(None, "the counters of statements were not read yet")
        return Writing(mean, hot_of(pieces, tables_refused))


def mean_of(growth: Mapping[Key, Counters], ids: frozenset[int], at: datetime | None) -> Measured:
    """The mean time of the calls that these statements had."""
    calls, ms = 0, 0.0
    for key, grown in growth.items():
        if key[1] in ids:
            calls, ms = calls + grown.calls, ms + grown.total_ms
    if not calls:
        return Measured(None, "no row was written in the interval", at)
    return Measured(ms / calls, "", at, calls)


def hot_of(pieces: Iterable[Piece], refused: str = "") -> Measured:
    """Of the newest interval of the tables."""
    newest = None
    for piece in pieces:
        newest = piece
    if newest is None:
        return Measured(None, refused or "the tables were not read twice yet")
    at = datetime.fromtimestamp(newest.end, UTC)
    updated = sum(figures[_UPDATED] for figures in newest.growth.values())
    if not updated:
        return Measured(None, "no row was updated in the interval", at)
    return Measured(sum(figures[_HOT] for figures in newest.growth.values()) / updated, "", at, updated)
