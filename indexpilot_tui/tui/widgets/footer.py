"""The last line: the keys of this screen, greyed where they do nothing now, or one message until the next key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indexpilot_tui.tui.actions import Action
from indexpilot_tui.tui.lines import Line, Segment, elide, fit, flat, line
from indexpilot_tui.tui.widgets.lineview import LineView


def footer_line(actions: Sequence[Action], why_not: Callable[[Action], str], width: int) -> Line:
    """Keys and labels in `width` cells; the labels of the highest rank give way first."""
    segments = []
    for action in actions:
        if not action.label:
            continue
        grey = bool(why_not(action))
        keys = (action.shown_keys, "dim" if grey else "accent")
        full = line(keys, (f" {action.label}", "dim" if grey else "plain"))
        segments.append(Segment((full, line()), action.rank))
    return fit(segments, width, separator="  ")


class ActionFooter(LineView, can_focus=False):
    """One line. A message takes its place and goes with the next key press."""

    DEFAULT_CSS = "ActionFooter { height: 1; overflow-y: hidden; background: $surface; dock: bottom; }"

    def __init__(self) -> None:
        super().__init__(id="footer")
        self._message: tuple[str, str] | None = None
        self._keys: Line = ()

    @property
    def message(self) -> str:
        """The message that is shown now, or nothing."""
        return self._message[0] if self._message else ""

    def say(self, text: str, tone: str = "plain") -> None:
        """Show a message instead of the keys."""
        self._message = (text, tone)
        self._paint()

    def hush(self) -> None:
        """Back to the keys."""
        if self._message is not None:
            self._message = None
            self._paint()

    def show(self, keys: Line) -> None:
        """Take a new line of keys."""
        self._keys = keys
        self._paint()

    def _paint(self) -> None:
        if self._message is None:
            self.set_lines([self._keys])
        else:
            text, tone = self._message
            self.set_lines([line((elide(flat(text), self.app.size.width), tone))])
