"""An hour of counters of a few kinds of things (tables, databases), as growth between readings. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

HOUR_S = 3600.0
THINGS = 300  # a reading; those that grew most by the first of their figures

Figures = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Growth from `start` to `end`, by oid."""

    start: float
    end: float
    growth: Mapping[int, Figures]


@dataclass(slots=True)
class Tape:
    """Takes readings of counters in; one that went back was reset, and says nothing of this time."""

    pieces: deque[Piece] = field(default_factory=deque)
    names: dict[int, str] = field(default_factory=dict)
    _at: float = 0.0
    _last: Mapping[int, Figures] | None = None

    def add(self, at: float, counters: Mapping[int, Figures], names: Mapping[int, str]) -> None:
        """A reading at `at` (seconds since 1970)."""
        before, since = self._last, self._at
        self._last, self._at = counters, at
        self.names = dict(names)
        if before is None or at <= since:
            return
        grown: dict[int, Figures] = {}
        for oid, now in counters.items():
            then = before.get(oid)
            if then is None:
                continue
            growth = tuple(b - a for a, b in zip(then, now, strict=True))
            if min(growth) >= 0 and any(growth):
                grown[oid] = growth
        if len(grown) > THINGS:
            grown = {oid: grown[oid] for oid in sorted(grown, key=lambda oid: grown[oid], reverse=True)[:THINGS]}
        self.pieces.append(Piece(since, at, grown))
        while self.pieces[0].end < at - HOUR_S:
            self.pieces.popleft()

    def cut(self) -> None:
        """Another server, or it began anew: nothing is compared with what was."""
        self.pieces.clear()
        self._last = None


def over(pieces: tuple[Piece, ...], since: float | None, seconds: float) -> tuple[float, dict[int, Figures]]:
    """The growth by oid since a moment, or of the last `seconds` (0: of the last reading), and the seconds that it is of."""
    if not pieces:
        return 0.0, {}
    newest = pieces[-1]
    start = since if since is not None else newest.end - seconds - 0.5
    wanted = [p for p in pieces if p is newest or (p.start >= start and (seconds or since is not None))]
    sums: dict[int, Figures] = {}
    for piece in wanted:
        for oid, figures in piece.growth.items():
            known = sums.get(oid)
            sums[oid] = figures if known is None else tuple(a + b for a, b in zip(known, figures, strict=True))
    return sum(p.end - p.start for p in wanted), sums
