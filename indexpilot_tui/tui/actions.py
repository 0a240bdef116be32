"""One action table a screen. It feeds the key bindings, the footer, the help and the command palette."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType

_SHOWN = {
    "slash": "/",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "question_mark": "?",
    "escape": "esc",
    "space": "space",
    "ctrl+p": "^p",
}


@dataclass(frozen=True, slots=True)
class Action:
    """`keys` as Textual names them, separated by commas; `do` the action string; `label` for the footer (empty: not
    shown there); `help` one sentence; `rank` the order in which labels give way in a narrow footer (high first)."""

    keys: str
    do: str
    label: str
    help: str
    rank: int = 1

    @property
    def shown_keys(self) -> str:
        """The keys as an operator reads them."""
        return " ".join(_SHOWN.get(key, key) for key in self.keys.split(",")[:4])

    @property
    def name(self) -> str:
        """The action's name without its arguments."""
        return self.do.split("(")[0].split(".")[-1]


def bindings(actions: Iterable[Action]) -> list[BindingType]:
    """Textual bindings of a table."""
    return [Binding(action.keys, action.do, action.label or action.help, show=False) for action in actions]


GLOBAL_ACTIONS = (
    Action("question_mark", "app.help", "help", "Show the keys of this screen, and why a greyed one is greyed.", 0),
    Action("ctrl+p", "app.command_palette", "", "Find and run any of these by name."),
    Action("c", "app.changes", "changes", "List the changes; enter takes one up again where it stands.", 3),
    Action("L", "app.sent", "log", "Show every statement that this console sent, with its duration.", 4),
    Action("q", "app.quit", "quit", "Leave. A running build goes on; the next start finds it.", 2),
)
BACK = Action("escape", "back", "back", "One step back. Never cancels a build.", 0)
