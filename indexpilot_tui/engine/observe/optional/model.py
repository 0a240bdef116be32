"""What the optional extensions told, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Kernel:
    """Of one statement: CPU seconds of its sessions, and bytes that went to or came from the disks."""

    user_s: float
    system_s: float
    read_bytes: float
    written_bytes: float

    def minus(self, older: Kernel) -> Kernel | None:
        """The growth; None where a counter went back: it was reset."""
        grown = Kernel(
            self.user_s - older.user_s,
            self.system_s - older.system_s,
            self.read_bytes - older.read_bytes,
            self.written_bytes - older.written_bytes,
        )
        values = (grown.user_s, grown.system_s, grown.read_bytes, grown.written_bytes)
        return grown if min(values) >= 0 else None


@dataclass(frozen=True, slots=True)
class Waits:
    """Samples by what was waited for, most first; a sample stands for `period_ms` of waiting (None: not known)."""

    samples: tuple[tuple[str, int], ...]
    period_ms: float | None

    @property
    def total(self) -> int:
        return sum(number for _, number in self.samples)

    @property
    def waited_s(self) -> float | None:
        """About how long all sessions together waited."""
        return None if self.period_ms is None else self.total * self.period_ms / 1000

    def minus(self, older: Waits) -> Waits | None:
        """The growth; None where a count went back: it was reset, or the least were dropped."""
        before = dict(older.samples)
        grown = {name: number - before.pop(name, 0) for name, number in self.samples}
        if before or min(grown.values(), default=0) < 0:
            return None
        most = sorted(((name, number) for name, number in grown.items() if number), key=lambda pair: -pair[1])
        return Waits(tuple(most), self.period_ms)


@dataclass(frozen=True, slots=True)
class Extras:
    """Of one statement, or of the whole server (then without `kernel`). `since` the reset, and of the last `seconds`
    (None: there is no interval yet, or a counter went back). `missing` names what could not be read, and why."""

    at: datetime | None = None
    seconds: float = 0.0
    kernel: Kernel | None = None
    kernel_since: Kernel | None = None
    waits: Waits | None = None
    waits_since: Waits | None = None
    missing: tuple[str, ...] = ()
