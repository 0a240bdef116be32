"""What statements wait for, sampled at every refresh: the last minute of it. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from indexpilot_tui.engine.observe.pulse import Wait

WAITS_S = 60.0
SHOWN = 4


@dataclass(slots=True)
class WaitSamples:
    """`known` False: the server tells no query ids, so nothing can be said of a statement."""

    known: bool = False
    _samples: deque[tuple[float, tuple[Wait, ...]]] = field(default_factory=deque)

    def add(self, at: float, waits: tuple[Wait, ...] | None) -> None:
        """One reading of the pulse, taken at `at` (seconds since 1970)."""
        if waits is None:
            return
        self.known = self.known or any(wait.queryid is not None for wait in waits)
        self._samples.append((at, waits))
        while self._samples and (self._samples[0][0] < at - WAITS_S or self._samples[0][0] > at):
            self._samples.popleft()

    def of(self, queryids: Iterable[int]) -> dict[int, tuple[tuple[str, float], ...]]:
        """What each of these waited for, with the share of its samples, most first."""
        found: dict[int, Counter[str]] = {queryid: Counter() for queryid in queryids}
        for _, waits in self._samples:
            for wait in waits:
                counts = found.get(wait.queryid) if wait.queryid is not None else None
                if counts is not None:
                    counts[f"{wait.kind}:{wait.event}" if wait.kind else ""] += wait.sessions
        return {
            queryid: tuple((name, number / counts.total()) for name, number in counts.most_common(SHOWN))
            for queryid, counts in found.items()
            if counts
        }
