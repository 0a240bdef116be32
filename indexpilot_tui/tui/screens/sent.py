"""What looking costs the server and what it may not see; then every statement that this console sent, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, elide, line, wrap
from indexpilot_tui.tui.screens.text import TextScreen

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.model import Observation
    from indexpilot_tui.engine.postgres.session import SentStatement


def cost_lines(seen: Observation, width: int) -> list[Line]:
    """The budget and what keeps it, and each question that was refused, with what would allow it."""
    cost = seen.cost
    spent = f"{cost.statements_per_min:.0f} statements and {cost.ms_per_min:.0f} ms a minute by the server's own clock"
    out = wrap(f"looking costs {spent}, of {cost.budget_ms_per_min:.0f} ms (observe.server_ms_per_minute_budget)", width)
    if cost.slower:
        paces = ", ".join(f"{name} every {seconds:.0f} s" for name, seconds in cost.slower)
        out += wrap(f"less often than wanted, to stay within it: {paces}", width, "warn")
    for text in (*seen.refused, *(seen.health.notes if seen.health else ())):
        out += wrap(f"not seen: {text}", width, "warn")
    return out


class SentScreen(TextScreen):
    """For trust, and for the time after an incident."""

    HELP_TITLE = "Statements sent"

    def heading(self) -> str:
        engine = self.console.engine
        return f"Statements sent · {len(engine.sent) if engine else 0} kept, newest first · times UTC"

    def text(self, width: int) -> Sequence[Line]:
        engine = self.console.engine
        entries: list[SentStatement] = list(engine.sent) if engine else []
        seen = self.snapshot.observation
        out: list[Line] = [*cost_lines(seen, width), ()] if seen is not None else []
        out += [line((f"{'at':8} {'session':9} {'ms':>8}  statement", "dim"))]
        for entry in reversed(entries):
            words = clean_line(entry.text)
            if entry.error:
                words = f"FAILED {clean_line(entry.error, 200)} · {words}"
            head = f"{fmt.hour(entry.at)} {entry.purpose:9} {entry.ms:8.1f}  "
            out.append(line((head, "dim"), (elide(words, width - len(head)), "crit" if entry.error else "plain")))
        return out
