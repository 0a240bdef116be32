"""The console's own clock, injectable so that a test (and a snapshot) can stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall` for showing (aware, UTC: on a shared screen everybody reads the same time), `mono` for ages in seconds."""

    wall: Callable[[], datetime] = _wall
    mono: Callable[[], float] = time.monotonic
