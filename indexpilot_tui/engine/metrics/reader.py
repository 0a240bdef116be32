"""Asking for a metric by its name: one reader for the gates, the guards and the panes."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from indexpilot_tui.engine.metrics import command
from indexpilot_tui.engine.metrics.answer import MetricError, figure, parse
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.settings.metrics import Metric
from indexpilot_tui.settings.model import Settings, Target

# passwords of ours are none of a metric's business
_SECRET = ("PGPASSWORD", "DB_PASSWORD", "API_SECRET_KEY", "SUPABASE_DB_URL")


@dataclass(slots=True)
class _Held:
    """The newest answer of one source. Only good ones are kept: a failure is asked about again at once."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: float | dict[str, Any] | None = None
    at: float = float("-inf")


class Metrics:
    """The metrics of one target. Several askers at a time share one run of a command; its answer serves for
    `max_age_seconds`, counted from before the run."""

    def __init__(self, settings: Settings, target: Target) -> None:
        self._settings, self._target = settings, target
        self._held: dict[str, _Held] = {}

    async def number(self, reference: str, facts: Facts) -> float:
        """The figure that NAME or NAME.KEY stands for. Raises MetricError: then it was not measured."""
        name, _, key = reference.partition(".")
        value = await self._answer(name, facts)
        if not key:
            if isinstance(value, dict):
                raise MetricError(f"metric {name} answers with an object: refer to a key of it, {name}.KEY")
            return value
        return self._of(name, value, key)

    async def numbers(self, name: str, keys: tuple[str, ...], facts: Facts) -> tuple[float, ...]:
        """Several figures of one answer, so that they belong together. Raises MetricError."""
        value = await self._answer(name, facts)
        return tuple(self._of(name, value, key) for key in keys)

    def age(self, name: str) -> float | None:
        """Seconds since the answer that is held was asked for; None when there is none."""
        held = self._held.get(name)
        return None if held is None or held.value is None else time.monotonic() - held.at

    async def is_object(self, name: str, facts: Facts) -> bool:
        """Whether the metric answers with an object. Raises MetricError."""
        return isinstance(await self._answer(name, facts), dict)

    @staticmethod
    def _of(name: str, value: float | dict[str, Any], key: str) -> float:
        if not isinstance(value, dict):
            raise MetricError(f"metric {name} answers with a number, which has no key {clean_line(key, 60)}")
        if key not in value:
            raise MetricError(f"metric {name} has no key {clean_line(key, 60)}")
        return figure(value[key], f"metric {name}.{clean_line(key, 60)}")

    async def _answer(self, name: str, facts: Facts) -> float | dict[str, Any]:
        metric = self._settings.metrics.get(name)
        if metric is None:
            raise MetricError(f"there is no metric {clean_line(name, 60)} in the configuration", field="metrics")
        held = self._held.setdefault(name, _Held())
        async with held.lock:
            begun = time.monotonic()
            if held.value is not None and begun - held.at <= metric.max_age_seconds:
                return held.value
            held.value = None
            try:
                value = parse(await self._ask(metric, facts))
            except MetricError as exc:
                raise MetricError(f"metric {name}: {exc.message}") from None
            held.value, held.at = value, begun
            return value

    async def _ask(self, metric: Metric, facts: Facts) -> bytes:
        words = {
            "{target}": self._target.name, "{host}": facts.host, "{port}": str(facts.port), "{database}": facts.database
        }  # fmt: skip
        if metric.url is not None:
            from indexpilot_tui.engine.metrics import hook  # ssl and http.client: for those who have one

            return await hook.get(
                _filled(metric.url, {k: quote(v, safe="") for k, v in words.items()}), metric.timeout_seconds
            )
        env = {k: v for k, v in os.environ.items() if k not in (*_SECRET, self._target.password_env)}
        return await command.run([_filled(word, words) for word in metric.command], metric.timeout_seconds, env)


def _filled(text: str, words: dict[str, str]) -> str:
    """Place-holders replaced in one pass: what was filled in is never looked at again."""
    parts, rest = [], text
    while rest:
        found = [(rest.find(word), word) for word in words if word in rest]
        if not found:
            break
        at, word = min(found)
        parts += [rest[:at], words[word]]
        rest = rest[at + len(word) :]
    return "".join([*parts, rest])
