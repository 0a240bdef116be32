"""What looking costs: booked round trip by round trip, told a refresh and a minute."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from indexpilot_tui.engine.observe.ask import Asker, Refusal, Rows
from indexpilot_tui.engine.observe.model import Cost
from indexpilot_tui.engine.observe.pace import Pace, Spending
from indexpilot_tui.engine.observe.pulse import Pulse


@dataclass(slots=True)
class Book:
    """`budget` in ms of the server a minute. `spend` is called after each round trip, `charge` once a refresh."""

    asker: Asker
    budget: float
    _statements: int = 0
    _trips: int = 0
    _ms: float = 0.0
    _spending: Spending = field(default_factory=lambda: Spending(time.monotonic()))

    def spend(self, server_ms: float | None) -> None:
        """Book the round trips since the last call; without the server's own figure, with the time that they took us."""
        tally = self.asker.take_tally()
        self._statements += tally.statements
        self._trips += tally.round_trips
        self._ms += tally.ms if server_ms is None else server_ms

    def charge(self, interval_s: float, paces: Sequence[tuple[str, Pace]]) -> Cost:
        """The cost of this refresh, and what comes less often because of the budget."""
        now = time.monotonic()
        self._spending.add(now, self._statements, self._ms)
        slower = tuple(
            (name, pace.period_s(self.budget))
            for name, pace in paces
            if pace.period_s(self.budget) > max(pace.interval_s, interval_s)
        )
        cost = Cost(
            self._statements,
            self._trips,
            self._ms,
            *self._spending.per_minute(now, interval_s),
            budget_ms_per_min=self.budget,
            slower=slower,
        )
        self._statements, self._trips, self._ms = 0, 0, 0.0
        return cost


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the server's time went in one round trip, in ms."""

    slow: float
    counters: float
    total: float


def clock_of(answers: Mapping[str, Rows | Refusal], pulse: Pulse | Refusal | None, *, single: bool) -> Clock | None:
    """From the server's own marks; None where the answers are not of one round trip."""
    if not isinstance(pulse, Pulse) or not single:
        return None
    info = answers.get("statements_info")
    until_pulse = max(0.0, pulse.round_ms - pulse.ms)
    if not info or isinstance(info, Refusal):
        return Clock(until_pulse, 0.0, pulse.round_ms)
    counters = max(0.0, (pulse.began - info[0]["began"]).total_seconds() * 1000)
    return Clock(max(0.0, until_pulse - counters), counters, pulse.round_ms)
