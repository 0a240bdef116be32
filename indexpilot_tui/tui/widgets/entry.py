"""Something must be typed before something happens: a name to confirm, a reason, a statement."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Input

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui.lines import flat, line, wrap
from indexpilot_tui.tui.widgets.lineview import LineView

Check = Callable[[str], str]


def exactly(name: str) -> Check:
    """Accept only this text, as it is shown on the screen (server text is cleaned before it is shown)."""
    wanted = clean_line(name)
    return lambda typed: "" if typed.strip() == wanted else f"type {wanted} to unlock"


def some_words(what: str, least: int = 4) -> Check:
    """Accept any text of at least `least` characters."""
    return lambda typed: "" if len(typed.strip()) >= least else f"{what}: at least {least} characters"


class Entry(Vertical):
    """A question, an input, a button that stays disabled until the input is accepted. The button never takes the focus:
    enter in the input presses it, so one stray key cannot."""

    DEFAULT_CSS = """
    Entry { height: auto; background: $background; padding: 0 1; border: round $ip-dim; }
    Entry:focus-within { border: round $accent; }
    Entry > Horizontal { height: 1; }
    Entry Input { width: 1fr; padding: 0 1; background: $surface; color: $foreground; }
    Entry Input:focus { background: $ip-cursor; }
    Entry Button { width: auto; min-width: 10; margin-left: 1; background: $panel;
        color: $foreground; text-style: bold; text-opacity: 100%; }
    Entry Button:disabled { color: $ip-dim; background: $surface; text-style: none; opacity: 100%; text-opacity: 100%; }
    Entry.-danger Button:enabled { background: $ip-frame-production; color: $ip-frame-text; }
    Entry > .hint { height: 1; }
    """

    class Accepted(Message):
        """Enter, with a text that passes the check."""

        def __init__(self, entry: Entry, value: str) -> None:
            self.entry, self.value = entry, value
            super().__init__()

        @property
        def control(self) -> Entry:
            return self.entry

    def __init__(self, question: str, button: str, check: Check, *, danger: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, classes="-danger" if danger else None)
        self._question, self._label, self._check = question, button, check
        self._held = ""
        self._working = ""

    def compose(self) -> ComposeResult:
        yield LineView(classes="question", grow=6, focusable=False)
        with Horizontal():
            yield Input(compact=True)
            button = Button(Content(flat(self._label)), disabled=True, compact=True)
            button.can_focus = False
            yield button
        yield LineView(classes="hint", focusable=False)

    def on_mount(self) -> None:
        self.ask(self._question, self._label, self._check)

    def on_resize(self) -> None:
        self._lay()

    def ask(self, question: str, button: str, check: Check) -> None:
        """Ask something else; what was typed is cleared."""
        self._question, self._label, self._check = question, button, check
        self.query_one(Button).label = Content(flat(button))
        self.query_one(Input).value = ""
        self._working = ""
        self._lay()
        self._judge()

    def hold(self, reason: str) -> None:
        """Keep the button disabled for a reason that has nothing to do with what is typed; empty: release."""
        if reason != self._held:
            self._held = reason
            self._judge()

    def working(self, words: str) -> None:
        """It was accepted and is being done: a second enter does nothing until it is released, or asked again."""
        if words != self._working:
            self._working = words
            self._judge()

    def release(self) -> None:
        """What was accepted has failed or come to its end: it may be accepted once more."""
        self.working("")

    def obstacle(self) -> str:
        """Why enter would do nothing now."""
        return self._working or self._held or self._check(self.query_one(Input).value)

    def focus_input(self) -> None:
        """Put the cursor where the text goes."""
        self.query_one(Input).focus()

    def _lay(self) -> None:
        width = max(20, self.size.width - 2)
        self.query_one(".question", LineView).set_lines(wrap(self._question, width, "bold"))

    def _judge(self) -> None:
        why = self.obstacle()
        self.query_one(Button).disabled = bool(why)
        text = (why, "warn" if self._working or self._held else "dim") if why else ("enter does it", "ok")
        self.query_one(".hint", LineView).set_lines([line(text)])

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._judge()

    @on(Input.Submitted)
    @on(Button.Pressed)
    def _submitted(self, event: Input.Submitted | Button.Pressed) -> None:
        event.stop()
        if not self.obstacle():
            value = self.query_one(Input).value.strip()
            self.working("working …")
            self.post_message(self.Accepted(self, value))
