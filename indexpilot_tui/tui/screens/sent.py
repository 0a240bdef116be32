"""Every statement that this console sent to the server, newest first, with what it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, elide, line
from indexpilot_tui.tui.screens.text import TextScreen

if TYPE_CHECKING:
    from indexpilot_tui.engine.postgres.session import SentStatement


class SentScreen(TextScreen):
    """For trust, and for the time after an incident."""

    HELP_TITLE = "Statements sent"

    def heading(self) -> str:
        engine = self.console.engine
        return f"Statements sent · {len(engine.sent) if engine else 0} kept, newest first · times UTC"

    def text(self, width: int) -> Sequence[Line]:
        engine = self.console.engine
        entries: list[SentStatement] = list(engine.sent) if engine else []
        out: list[Line] = [line((f"{'at':8} {'session':9} {'ms':>8}  statement", "dim"))]
        for entry in reversed(entries):
            words = clean_line(entry.text)
            if entry.error:
                words = f"FAILED {clean_line(entry.error, 200)} · {words}"
            head = f"{fmt.hour(entry.at)} {entry.purpose:9} {entry.ms:8.1f}  "
            out.append(line((head, "dim"), (elide(words, width - len(head)), "crit" if entry.error else "plain")))
        return out
