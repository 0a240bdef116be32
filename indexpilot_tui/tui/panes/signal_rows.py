"""The rows of the signals screen, and what is told of the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, Span, line, rule, wrap
from indexpilot_tui.tui.widgets.table import Column, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.gauge import Gauge

TREND = 10
COLUMNS = (
    Column("group", "", 9, "left", 100),
    Column("name", "signal", 19),
    Column("value", "value", 10, "right"),
    Column("limit", "limit", 9, "right"),
    Column("trend", "trend", TREND),
    Column("age", "age", 5, "right"),
    Column("note", "", 0),
)
TONES = {"within": "ok", "over": "crit", "plain": "plain", "unknown": "warn"}
MARKS = {"within": " ", "over": "!", "plain": " ", "unknown": "?"}


def figure(value: float | None, unit: str) -> str:
    """A value or a limit with its unit."""
    if value is None:
        return fmt.NOT_MEASURED
    if unit in ("B", "B/s"):
        return fmt.size(value) + unit[1:]
    if unit == "s":
        return fmt.seconds(value)
    if unit == "":
        return fmt.count(value)
    if unit == "%":
        return f"{value:.1f} %"
    return f"{fmt.rate(value)}{'' if unit == '/s' else ' '}{unit}"


def age_of(gauge: Gauge, read_at: datetime | None, since_s: float | None) -> float | None:
    """Seconds since it was read: it was `since_s` ago that the target's clock was at `read_at`. None: nobody knows."""
    if gauge.at is None or read_at is None or since_s is None:
        return None
    return max(0.0, (read_at - gauge.at).total_seconds() + since_s)


def signal_row(gauge: Gauge, age_s: float | None, *, live: bool) -> Row:
    """One signal. Where the target does not answer (`live` False) nothing of it is known now, and nothing is coloured."""
    standing = gauge.standing(age_s).value if live else "unknown"
    tone = TONES[standing]
    unknown = bool(gauge.why) or (gauge.value is None and not gauge.words)
    shown = "unknown" if unknown else gauge.words or figure(gauge.value, gauge.unit)
    if not unknown and standing == "unknown":
        shown = f"({shown})"
    limit = ("≥ " if gauge.least else "") + figure(gauge.limit, gauge.unit) if gauge.limit is not None else ""
    cells: dict[str, Span] = {
        "group": (gauge.group, "dim"),
        "name": (gauge.name, "plain"),
        "value": (shown, tone),
        "limit": (limit, "dim"),
        "trend": (fmt.sparkline(gauge.trend, TREND), "dim"),
        "age": ("–" if age_s is None else f"{age_s:.0f} s" if age_s < 100 else fmt.seconds(age_s).split()[0], "dim"),
        "note": (gauge.why or gauge.evidence, "warn" if gauge.why else "dim"),
    }
    return Row(gauge.key, cells, (MARKS[standing], tone))


def about(gauge: Gauge, age_s: float | None, width: int, *, live: bool) -> Sequence[Line]:
    """All that is known of one signal."""
    out: list[Line] = [rule(f"{gauge.group} · {gauge.name}", width)]
    standing = gauge.standing(age_s).value
    words = {
        "within": "within its limit",
        "over": "NOT as it should be" if gauge.bad else "below its limit" if gauge.least else "above its limit",
        "plain": "measured; no limit is set",
        "unknown": "unknown",
    }[standing]
    if not live:
        words = "of the last reading; the target does not answer now, so nothing is known"
    elif standing == "unknown" and not gauge.why:
        words = "unknown now: it was read too long ago" if age_s is not None else "unknown: when it was read is not known"
    out.append(line((words, TONES[standing] if live else "warn")))
    if gauge.why:
        out += wrap(gauge.why, width, "warn")
    if gauge.evidence:
        out += wrap(gauge.evidence, width)
    known = [v for v in gauge.trend if v == v]  # noqa: PLR0124 - a gap is no number
    if known:
        last = figure(known[-1], gauge.unit)
        spread = f"{figure(min(known), gauge.unit)} to {figure(max(known), gauge.unit)}"
        out.append(line(("past     ", "dim"), f"{spread}, {last} at the end, {len(gauge.trend)} readings"))
    if gauge.setting:
        of = figure(gauge.limit, gauge.unit) if gauge.limit is not None else "no limit"
        out += wrap(f"limit    {of}, by {gauge.setting}", width)
    if age_s is not None:
        out.append(line(("read     ", "dim"), f"{fmt.seconds(age_s)} ago"))
    return out
