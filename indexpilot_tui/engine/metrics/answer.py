"""What a command or a hook may answer: a number, or one JSON object with numbers in it. Everything else is no answer."""

from __future__ import annotations

import json
import math
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError

MAX_BYTES = 65_536


class MetricError(IndexPilotError):
    """A metric was not measured; the message says why. It is never a zero."""


def parse(raw: bytes) -> float | dict[str, Any]:
    """The answer, checked: a finite number, or an object (its values are checked when they are asked for).

    Raises MetricError for anything else: nothing, garbage, null, a list, NaN, an infinity, a truth value.
    """
    if len(raw) > MAX_BYTES:
        raise MetricError(f"the answer is longer than {MAX_BYTES} bytes")
    text = raw.decode("utf-8", "replace").strip()
    if not text:
        raise MetricError("the answer is empty")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MetricError(f"the answer is neither a number nor JSON: {clean_line(text, 60)}") from None
    return value if isinstance(value, dict) else figure(value, "the answer")


def figure(value: object, what: str) -> float:
    """A finite number, or MetricError. A truth value is none, though Python counts with it."""
    if value is None:
        raise MetricError(f"{what} is null")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetricError(f"{what} is no number: {clean_line(repr(value), 60)}")
    try:
        found = float(value)
    except OverflowError:
        raise MetricError(f"{what} is no finite number") from None
    if not math.isfinite(found):
        raise MetricError(f"{what} is no finite number")
    return found
