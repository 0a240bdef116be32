"""What one process remembers between two evaluations of the gates: figures that are dear to read, and readings to compare
with. Never a verdict: green is found anew each time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from indexpilot_tui.engine.metrics.reader import Metrics
from indexpilot_tui.engine.observe.signals import SignalReader
from indexpilot_tui.settings.model import Settings, Target

if TYPE_CHECKING:
    from indexpilot_tui.engine.safeguards.table_writes import Before

T = TypeVar("T")
STALE_S = 60.0  # an older reading tells nothing about now


@dataclass(frozen=True, slots=True)
class Two(Generic[T]):
    """Two readings of the same thing, so many seconds apart."""

    first: T
    second: T
    seconds: float


@dataclass(slots=True)
class Memory:
    """Of one target. It belongs to whoever evaluates: a console, or the executor of one change."""

    signals: SignalReader = field(default_factory=SignalReader)
    before: Before | None = None  # what the guards of a build compare with; of the newest evaluation
    _metrics: Metrics | None = None
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _moments: dict[str, tuple[datetime, Any]] = field(default_factory=dict)
    _readings: dict[str, tuple[float, Any]] = field(default_factory=dict)

    def metrics(self, settings: Settings, target: Target) -> Metrics:
        """The reader of metrics, which keeps each answer for its `max_age_seconds`."""
        if self._metrics is None:
            self._metrics = Metrics(settings, target)
        return self._metrics

    async def kept(self, key: str, seconds: float, read: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of `read`, asked again when the last one is older than `seconds`. A failure is not kept."""
        begun = time.monotonic()
        held = self._kept.get(key)
        if held is not None and begun - held[0] <= seconds:
            return held[1]
        value = await read()
        self._kept[key] = (begun, value)
        return value

    def held(self, key: str) -> tuple[float, Any] | None:
        """What `kept` has, with its age in seconds; nothing is asked."""
        found = self._kept.get(key)
        return None if found is None else (time.monotonic() - found[0], found[1])

    async def once(self, key: str, moment: datetime, read: Callable[[], Awaitable[T]]) -> T:
        """The answer of `read`, shared by all who ask at one moment (one evaluation). A failure is not kept."""
        held = self._moments.get(key)
        if held is not None and held[0] == moment:
            return held[1]  # type: ignore[no-any-return]
        value = await read()
        self._moments[key] = (moment, value)
        return value

    async def first(self, key: str, read: Callable[[], Awaitable[Any]]) -> None:
        """Take a reading to compare with, unless there is one that is fresh enough."""
        held = self._readings.get(key)
        if held is None or time.monotonic() - held[0] > STALE_S:
            value = await read()
            self._readings[key] = (time.monotonic(), value)

    async def two(self, key: str, seconds: float, read: Callable[[], Awaitable[T]]) -> Two[T]:
        """The reading held and a new one, at least `seconds` apart; the new one is held for the next time."""
        await self.first(key, read)
        at, first = self._readings[key]
        await asyncio.sleep(max(0.0, at + seconds - time.monotonic()))
        second = await read()
        now = time.monotonic()
        self._readings[key] = (now, second)
        return Two(first, second, now - at)
