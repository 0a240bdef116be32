"""The last hour of each busy statement, one point an interval, kept small."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexpilot_tui.engine.observe.counters import Counters
from indexpilot_tui.engine.observe.model import HistoryPoint

HISTORY_S = 3600.0
MAX_HISTORIES = 400  # bounds memory: 400 statements * 1,800 points * 32 bytes = 23 MB at the very worst
_POINT = 4  # numbers a point: time (epoch seconds), calls/s, mean ms, ms/s


@dataclass(slots=True)
class _Track:
    points: array[float] = field(default_factory=lambda: array("d"))
    last_active: float = 0.0


@dataclass(slots=True)
class Histories:
    tracks: dict[int, _Track] = field(default_factory=dict)

    def add(self, at: datetime, seconds: float, top: Mapping[int, Counters], all_growth: Mapping[int, Counters]) -> None:
        """A point for each of `top`, and for each statement known from before: zero if it did nothing (a silence is a
        measurement, not a gap)."""
        stamp = at.timestamp()
        for queryid in top:
            self.tracks.setdefault(queryid, _Track())
        for queryid, track in self.tracks.items():
            c = all_growth.get(queryid)
            if c is None:
                track.points.extend((stamp, 0.0, 0.0, 0.0))
            else:
                track.points.extend((stamp, c.calls / seconds, c.total_ms / c.calls, c.total_ms / seconds))
                track.last_active = stamp
            first = 0
            while track.points[first] < stamp - HISTORY_S:
                first += _POINT
            del track.points[:first]
        self._prune(stamp)

    def trend(self, queryid: int, count: int) -> tuple[float, ...]:
        """ms per second of the last `count` intervals, oldest first."""
        track = self.tracks.get(queryid)
        return tuple(track.points[-_POINT * count :][3::_POINT]) if track else ()

    def points(self, queryid: int) -> tuple[HistoryPoint, ...]:
        track = self.tracks.get(queryid)
        if track is None:
            return ()
        p = track.points
        return tuple(
            HistoryPoint(datetime.fromtimestamp(p[i], UTC), p[i + 1], p[i + 2], p[i + 3]) for i in range(0, len(p), _POINT)
        )

    def _prune(self, stamp: float) -> None:
        for queryid in [q for q, t in self.tracks.items() if t.last_active < stamp - HISTORY_S]:
            del self.tracks[queryid]
        surplus = len(self.tracks) - MAX_HISTORIES
        if surplus > 0:
            for queryid in sorted(self.tracks, key=lambda q: self.tracks[q].last_active)[:surplus]:
                del self.tracks[queryid]
