"""What one process remembers between two evaluations of the gates: figures that are dear to read, and readings to compare
with. Never a verdict: green is found anew each time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.metrics.reader import Metrics
from indexpilot_tui.settings.model import Settings, Target


@dataclass(slots=True)
class Memory:
    """Of one target. It belongs to whoever evaluates: a console, or the executor of one change."""

    _metrics: Metrics | None = None
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)

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
