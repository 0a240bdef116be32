"""How often each question is asked: as often as wanted, unless that would cost the server more than its share of the
budget. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

# weight of the newest cost in the mean: one slow answer does not make a rule, and a cold first one is soon forgotten
_SLOWER, _QUICKER = 0.3, 0.8
_COST_WINDOW_S = 60.0


@dataclass(slots=True)
class Pace:
    """One question's. `interval_s`: not more often than this. `share`: of the budget (ms of server time a minute) that it
    may use. `cost_ms` is the smoothed mean of what one asking took the server (None: never asked)."""

    interval_s: float
    share: float
    cost_ms: float | None = None
    due: float = 0.0

    def period_s(self, budget_ms_per_min: float) -> float:
        """Seconds between two askings, as things are."""
        if self.cost_ms is None:
            return self.interval_s
        return max(self.interval_s, self.cost_ms * 60.0 / (self.share * budget_ms_per_min))

    def asked(self, now: float, cost_ms: float, budget_ms_per_min: float) -> None:
        """It was asked at `now`, and took the server `cost_ms`."""
        cost_ms = max(0.0, cost_ms)
        before = cost_ms if self.cost_ms is None else self.cost_ms
        self.cost_ms = before + (_SLOWER if cost_ms > before else _QUICKER) * (cost_ms - before)
        # half a tick early, or a wish for every refresh would become every other one
        self.due = now + self.period_s(budget_ms_per_min) - min(0.5, self.interval_s / 4)

    def ready(self, now: float) -> bool:
        return now >= self.due


@dataclass(slots=True)
class Spending:
    """What was spent lately, for the figures a minute."""

    began: float
    entries: deque[tuple[float, int, float]] = field(default_factory=deque)  # when, statements, ms of the server

    def add(self, now: float, statements: int, ms: float) -> None:
        self.entries.append((now, statements, ms))
        while self.entries[0][0] < now - _COST_WINDOW_S:
            self.entries.popleft()

    def per_minute(self, now: float, interval_s: float) -> tuple[float, float]:
        """Statements and ms a minute, from the refreshes of the last minute; before a minute has passed, from their mean at
        the set interval (the costly first one is not taken for the rule)."""
        if not self.entries:
            return 0.0, 0.0
        if now - self.began >= _COST_WINDOW_S:
            return float(sum(n for _, n, _ in self.entries)), sum(ms for _, _, ms in self.entries)
        usual = list(self.entries)[1:] or [self.entries[0]]
        scale = 60.0 / interval_s / len(usual)
        return sum(n for _, n, _ in usual) * scale, sum(ms for _, _, ms in usual) * scale
