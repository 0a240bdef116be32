"""What pg_stat_kcache and pg_wait_sampling tell, in lines; what is missing is said by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, rule, wrap

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.optional.model import Extras, Kernel, Waits

SHOWN = 6  # kinds of waits


def statement_lines(extras: Extras, width: int) -> list[Line]:
    """Of one statement: the last interval, and since the reset."""
    out: list[Line] = [rule("kernel and waits, by optional extensions", width)]
    rows: list[str] = []
    if extras.kernel is not None and extras.seconds > 0:
        rows.append(f"the last {fmt.seconds(extras.seconds)}: {_kernel(extras.kernel, extras.seconds)}")
    if extras.kernel_since is not None:
        k = extras.kernel_since
        rows.append(
            f"since the reset: CPU {fmt.seconds(k.user_s)} user, {fmt.seconds(k.system_s)} system · "
            f"read {fmt.size(k.read_bytes)}, written {fmt.size(k.written_bytes)} physically (pg_stat_kcache)"
        )
    rows += waits_rows(extras)
    for row in rows:
        out += wrap(row, width)
    for text in extras.missing:
        out += wrap(f"not told: {text}", width, "dim")
    return out


def _kernel(k: Kernel, seconds: float) -> str:
    return (
        f"CPU {fmt.rate(1000 * k.user_s / seconds)} ms/s user, {fmt.rate(1000 * k.system_s / seconds)} system · "
        f"read {fmt.size(k.read_bytes / seconds)}/s, written {fmt.size(k.written_bytes / seconds)}/s physically"
    )


def waits_rows(extras: Extras) -> list[str]:
    """The waits of the last interval, and since the reset."""
    rows = []
    if extras.waits is not None and extras.seconds > 0:
        rows.append(f"waits of the last {fmt.seconds(extras.seconds)}: {_waits(extras.waits)}")
    if extras.waits_since is not None:
        rows.append(f"waits since the reset: {_waits(extras.waits_since)} (pg_wait_sampling)")
    return rows


def _waits(waits: Waits) -> str:
    if not waits.total:
        return "none was seen"
    shares = [f"{name} {fmt.percent(number / waits.total, 0)} %" for name, number in waits.samples[:SHOWN]]
    about = f", about {fmt.seconds(waits.waited_s)} in all" if waits.waited_s is not None else ""
    return " · ".join(shares) + f"{about} ({fmt.count(waits.total)} samples)"
