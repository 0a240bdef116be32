"""Figures for the screen. Every one has a unit, and a missing one says so instead of showing nought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

NOT_MEASURED = "–"
_BARS = "▁▂▃▄▅▆▇█"


def size(value: float | None) -> str:
    """Bytes in binary units, PostgreSQL's own (1 kB = 1024 bytes), three significant digits."""
    if value is None:
        return NOT_MEASURED
    number = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 1024 or unit == "TB":
            break
        number /= 1024
    if unit == "B" or abs(number) >= 100:
        return f"{number:.0f} {unit}"
    return f"{number:.1f} {unit}"


def count(value: float | None) -> str:
    """A whole number with thousands separators, from ten million on in millions (M), from 10^9 on in bn."""
    if value is None:
        return NOT_MEASURED
    if abs(value) >= 1_000_000_000:
        return f"{value / 1e9:,.1f} bn"
    if abs(value) >= 10_000_000:
        return f"{value / 1e6:,.1f}M"
    return f"{value:,.0f}"


def rate(value: float | None) -> str:
    """A rate or a time in ms with sensible digits."""
    if value is None:
        return NOT_MEASURED
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share 0..1 as a percentage, without the sign."""
    return NOT_MEASURED if value is None else f"{value * 100:.{digits}f}"


def change_pct(before: float, after: float) -> str:
    """Relative change with its sign, in percent; `new` where there was nothing before."""
    if before == 0:
        return "±0 %" if after == 0 else "new"
    delta = (after - before) / before * 100
    if abs(delta) < 0.05:
        return "±0 %"
    sign = "+" if delta > 0 else "−"
    return f"{sign}{abs(delta):.0f} %" if abs(delta) >= 10 else f"{sign}{abs(delta):.1f} %"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 12 s, 4m 10s, 3h 02m, 5d 1h."""
    if value is None:
        return NOT_MEASURED
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f} s"
    whole = int(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 172_800:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def span(low: float, high: float) -> str:
    """A range of seconds: `2–6 s`."""
    if high < 10:
        return f"{low:.1f}–{high:.1f} s"
    return f"{seconds(low)} – {seconds(high)}"


def clock(value: datetime, *, with_date: bool = False) -> str:
    """A time of day with its zone, for a bar."""
    return value.strftime("%Y-%m-%d %H:%M:%S %Z" if with_date else "%H:%M:%S %Z")


def hour(value: datetime) -> str:
    return value.strftime("%H:%M:%S")


def ago(now: datetime, then: datetime) -> str:
    return seconds((now - then) / timedelta(seconds=1))


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars against the largest of them; no value, no bar; what is not finite is a gap."""
    shown = list(values)[-width:]
    top = max((v for v in shown if math.isfinite(v)), default=0.0)
    bars = [" " if not math.isfinite(v) else _BARS[0 if top <= 0 else min(7, int(max(0.0, v) / top * 7.999))] for v in shown]
    return "".join(bars).rjust(width)


def bar(done: float, total: float, width: int) -> str:
    """A progress bar of eighths, in brackets so that it reads without colour."""
    share = 0.0 if total <= 0 else min(1.0, max(0.0, done / total))
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    body = "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
    return "▕" + body.ljust(width, "·") + "▏"


def version(number: int) -> str:
    """150018 -> 15.18."""
    return f"{number // 10_000}.{number % 10_000}"
