"""Activity and locks: who blocks whom and what would free them, who holds old snapshots, what runs long. Only looks: what it
names is for a person to run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.lines import Line, line, rule, wrap
from indexpilot_tui.tui.panes.activity_rows import COLUMNS, Thing, cells_of, things_of
from indexpilot_tui.tui.panes.extras import waits_rows
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.table import KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.blocking_model import Blocking, SessionRow
    from indexpilot_tui.engine.observe.optional.model import Extras
    from indexpilot_tui.tui.feed import Snapshot


class ActivityScreen(ConsoleScreen):
    """Asked at each reading while it is in front, and never otherwise."""

    HELP_TITLE = "Activity and locks"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("t", "tree", "waits only", "Show only who blocks and who waits, or everything.", 1),
        Action("space", "pause", "pause", "Hold the picture still.", 3),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    ActivityScreen #sessions { height: 3fr; }
    ActivityScreen #about { height: 2fr; min-height: 7; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Blocking | None = None
        self._fault = ""
        self._asked: object = None
        self._tree_only = False
        self._extras: Extras | None = None
        self._silent = ""
        self._things: tuple[Thing, ...] = ()

    def body(self) -> ComposeResult:
        table = KeyedTable(COLUMNS, empty="asking the server …", id="sessions")
        table.add_class("pane")
        yield table
        yield LineView(id="about", classes="pane")

    def on_mount(self) -> None:
        self.query_one("#sessions").focus()
        super().on_mount()

    def live(self, snapshot: Snapshot) -> None:
        seen = snapshot.observation
        if seen is not None and seen is not self._asked and not self.console.paused:
            self._asked = seen
            self.work_on(self.engine.blocking, self._take, what="reading sessions and locks", failed=self._failed)
            self.work_on(
                lambda: self.engine.extras(None), self._told, what="reading waits", group="extras", failed=self._untold
            )
        self._draw(snapshot)

    def _take(self, seen: Blocking) -> None:
        self._seen, self._fault = seen, ""

    def _told(self, extras: Extras) -> None:
        self._extras, self._silent = extras, ""

    def _untold(self, fault: Fault) -> None:
        self._silent = fault.one_line

    def _failed(self, fault: Fault) -> None:
        self._fault = fault.one_line

    def _draw(self, snapshot: Snapshot) -> None:
        table = self.query_one("#sessions", KeyedTable)
        if self._seen is not None:
            self._things = things_of(self._seen, tree_only=self._tree_only)
            nothing = "nobody waits for a lock" if self._tree_only else "nobody waits, no old snapshot, nothing runs long"
            table.set_rows([Row(t.key, cells_of(t), t.mark) for t in self._things], empty=nothing)
        elif self._fault:
            table.set_rows([], empty=self._fault)
        table.set_title(self._heading())
        about = self.query_one("#about", LineView)
        about.set_title(self._waits(snapshot))
        about.set_lines(self._about(max(20, about.line_width)))

    def _heading(self) -> str:
        parts = ["Activity & locks"]
        seen = self._seen
        if seen is not None:
            parts.append(f"{seen.waiting or 'nobody'} waiting")
            if self._tree_only:
                parts.append("waits only")
            if seen.hidden:
                parts.append(f"{seen.hidden} sessions hidden (pg_monitor shows them)")
        if self._fault and seen is not None:
            parts.append(f"STALE, of {fmt.hour(seen.at)}: {self._fault}")
        return " · ".join(parts)

    @staticmethod
    def _waits(snapshot: Snapshot) -> str:
        signals = snapshot.observation.signals if snapshot.observation else None
        kinds = signals.waits_by_kind if signals is not None else None
        if kinds is None:
            return "waits not measured"
        words = [f"{kind or 'on a CPU'} {number}" for kind, number in list(kinds.items())[:5]]
        return "at work now: " + (" · ".join(words) or "nobody")

    def _thing(self) -> Thing | None:
        key = self.query_one("#sessions", KeyedTable).selected
        return next((t for t in self._things if t.key == key), None)

    def _about(self, width: int) -> Sequence[Line]:
        thing, out = self._thing(), []
        if thing is not None:
            if thing.remedy:
                label = f"frees {thing.frees} waiting" if thing.frees else "what it would take"
                out += [rule(label, width), *wrap(thing.remedy, width, "warn" if thing.frees else "plain")]
            if thing.facts:
                out += [rule("who and what", width), *(folded for text in thing.facts for folded in wrap(text, width))]
            if thing.session is not None:
                out += [rule("statement", width), *wrap(self._statement(thing.session), width)]
        for text in self._seen.unread if self._seen else ():
            out += wrap(f"not read: {text}", width, "crit")
        if self._extras is not None or self._silent:
            out += [rule("waits of the server, sampled by an optional extension", width)]
        if self._extras is not None:
            out += [folded for row in waits_rows(self._extras) for folded in wrap(row, width)]
            out += [folded for text in self._extras.missing for folded in wrap(f"not told: {text}", width, "dim")]
        if self._silent:
            out += wrap(self._silent, width, "crit")
        return out or [line(("put the cursor on a session", "dim"))]

    @staticmethod
    def _statement(session: SessionRow) -> str:
        last = "its last: " if session.state.startswith("idle") else ""
        return last + (session.query or "(none)")

    @on(KeyedTable.Moved)
    def _moved(self) -> None:
        about = self.query_one("#about", LineView)
        about.set_lines(self._about(max(20, about.line_width)))
        about.scroll_home(animate=False)

    def action_tree(self) -> None:
        """Only the tree, or everything."""
        self._tree_only = not self._tree_only
        self._draw(self.snapshot)
        self.say("only who blocks and who waits" if self._tree_only else "everything")
