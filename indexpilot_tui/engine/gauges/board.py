"""All signals of one target together, with what each was lately: fed by every refresh, so that there is a past when somebody
looks. It asks the server nothing; of the metrics it asks only when it is read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from indexpilot_tui.engine.gauges.follow import FOLLOW, follow_gauges
from indexpilot_tui.engine.gauges.outside import outside_gauges
from indexpilot_tui.engine.gauges.server import LOAD, WAITS, WRITES, server_gauges
from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.observe.model import Observation
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.settings.model import Settings, Target

POINTS = 60  # of the past of each signal
COMING = ("slot ", "lag ")
_PULSE = ((LOAD, "load"), (WAITS, "waits"), (WRITES, "transactions, WAL, checkpoints"), (FOLLOW, "followers"))


@dataclass(slots=True)
class _Past:
    at: datetime | None = None
    points: deque[float] = field(default_factory=lambda: deque(maxlen=POINTS))


@dataclass(slots=True)
class Board:
    """`memory` is that of the gates: its metrics are shared."""

    target: Target
    settings: Settings
    memory: Memory
    _past: dict[str, _Past] = field(default_factory=dict)
    _gauges: tuple[Gauge, ...] = ()
    _now: tuple[datetime, float] | None = None  # the target's clock at our monotonic time
    _started: datetime | None = None
    _fault: str = "nothing was read yet"

    def take(self, seen: Observation) -> None:
        """A refresh. One that failed keeps what there was, with its age."""
        signals = seen.signals
        if signals is None:
            self._fault = seen.error or next((t for t in seen.refused if t.startswith("pulse")), "the server was not read")
            self._gauges = ()
            return
        if self._now is not None and signals.pulse.at == self._now[0]:
            return  # an old one again: the newest refresh failed
        if self._started not in (None, signals.pulse.started):
            self._past.clear()
        self._started = signals.pulse.started
        self._now = signals.pulse.at, time.monotonic()
        found = [*server_gauges(signals, self.settings, self.target), *follow_gauges(signals, self.settings)]
        self._gauges = tuple(self._remembered(found))
        self._forget()

    async def read(self, facts: Facts) -> tuple[Gauge, ...]:
        """The newest of all, with their past. Runs the metrics whose last answer is too old."""
        missing = () if self._gauges else tuple(Gauge(key, key, name, why=self._fault) for key, name in _PULSE)
        outside = []
        async for gauge, age in outside_gauges(self.settings, self.target, self.memory, facts):
            outside.append(replace(gauge, at=self._moment(age)))
        return (*missing, *self._gauges, *self._remembered(outside))

    def _moment(self, age: float | None) -> datetime | None:
        """By the target's clock, what was `age` seconds ago."""
        if age is None or self._now is None:
            return None
        at, mono = self._now
        return at + timedelta(seconds=time.monotonic() - mono - age)

    def _remembered(self, gauges: Iterable[Gauge]) -> list[Gauge]:
        found = []
        for gauge in gauges:
            past = self._past.setdefault(gauge.key, _Past())
            fresh = gauge.at is not None and (past.at is None or gauge.at - past.at > timedelta(milliseconds=200))
            if fresh:
                past.at = gauge.at
                # what could not be read is a gap, not a nought
                past.points.append(float("nan") if gauge.value is None or gauge.why else gauge.value)
            found.append(replace(gauge, trend=tuple(past.points)))
        return found

    def _forget(self) -> None:
        """Slots and standbys come and go."""
        known = {gauge.key for gauge in self._gauges}
        for key in [k for k in self._past if k.startswith(COMING) and k not in known]:
            del self._past[key]
