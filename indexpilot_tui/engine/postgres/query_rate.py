"""`rate_limiter.query`: how many statements this process sends to a target in a time. Over the limit whoever looks waits;
what guards a build counts and never waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from indexpilot_tui.settings.model import Settings, Target


@dataclass(slots=True)
class QueryRate:
    """A sliding window over the statements sent."""

    most: int
    window_s: float
    _sent: deque[float] = field(default_factory=deque)

    @property
    def used(self) -> int:
        """Statements in the window that ends now."""
        self._forget(time.monotonic())
        return len(self._sent)

    def free_in(self, statements: int) -> float:
        """Seconds until so many more may be sent. More than the limit at once are let through when the window is empty."""
        now = time.monotonic()
        self._forget(now)
        over = len(self._sent) + min(statements, self.most) - self.most
        return 0.0 if over <= 0 else max(0.0, self._sent[over - 1] + self.window_s - now)

    async def turn(self, statements: int, *, wait: bool) -> float:
        """Count statements that are about to be sent, after waiting for their turn if asked to. Seconds waited."""
        start = time.monotonic()
        while wait and (pause := self.free_in(statements)) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(pause)
        now = time.monotonic()
        self._sent.extend([now] * statements)
        return now - start

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - self.window_s:
            self._sent.popleft()


_rates: dict[tuple[object, ...], QueryRate] = {}


def rate_of(target: Target, settings: Settings) -> QueryRate:
    """The one that all sessions of this process to a target share."""
    limit = settings.rate_limiter.query
    place = (target.name, target.dsn, target.service, target.host, target.port, target.dbname)
    return _rates.setdefault(
        (*place, limit.max_requests, limit.time_window_seconds),
        QueryRate(limit.max_requests, float(limit.time_window_seconds)),
    )
