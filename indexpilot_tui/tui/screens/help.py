"""The keys of the screen below, and why a greyed one is greyed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType

from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.lines import Line, line, pad, rule, wrap
from indexpilot_tui.tui.screens.text import TextScreen

READING = (
    "The strip: environment and target, role, version, encryption, whether this console may act, who you are, the time. "
    "Below it: how old the data is, whether the throttle lets a change start, the load, and what our looking costs.",
    "A dash (–) means not measured. STALE means that the newest reading failed: what you see is the last good one, and a "
    "gate in brackets tells what it said then.",
    "Nothing on one key changes the database: a change is simulated, reviewed, approved by another login and confirmed by "
    "typing the index's name.",
)
MOVING = (
    ("up down", "move the cursor or scroll; j k in tables"),
    ("tab", "the next pane; out of a field in which you type"),
    ("pgup pgdn home end", "move by a screenful, to the first, to the last"),
)


class HelpScreen(TextScreen):
    """Built from the action table of the screen that asked."""

    HELP_TITLE = "Help"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        BACK,
        Action("question_mark", "back", "", "Close the help."),
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, title: str, entries: Sequence[tuple[Action, str]]) -> None:
        super().__init__()
        self._of, self._entries = title, tuple(entries)

    def heading(self) -> str:
        return f"Help · {self._of}"

    def text(self, width: int) -> Sequence[Line]:
        out: list[Line] = [rule("keys", width)]
        for action, reason in self._entries:
            tone = "dim" if reason else "plain"
            words = action.help + (f" (not now: {reason})" if reason else "")
            for number, folded in enumerate(wrap(words, width - 14, tone)):
                out.append(line((pad(action.shown_keys if number == 0 else "", 14), "accent"), *folded))
        out.append(rule("moving", width))
        out += [line((pad(keys, 21), "accent"), words) for keys, words in MOVING]
        out.append(rule("reading the screen", width))
        for paragraph in READING:
            out += [*wrap(paragraph, width), ()]
        return out
