"""All changes of the target, newest first. Enter takes one up again where it stands, also after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.feed import change_tone
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.widgets.table import Column, KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.tui.feed import Snapshot

COLUMNS = (
    Column("id", "#", 5, "right"),
    Column("state", "state", 14),
    Column("kind", "kind", 7),
    Column("index", "index", 0),
    Column("table", "table", 20, "left", 100),
    Column("by", "requested by", 12),
    Column("at", "state since", 14, "left", 78),
    Column("reason", "reason", 30, "left", 130),
)


def row_of(change: Change) -> Row:
    """One change as a row; the key is its number."""
    kind = f"undo {change.parent_id}" if change.parent_id else change.kind
    return Row(
        change.id,
        {
            "id": (str(change.id), "bold"),
            "state": (change.state.value.replace("_", " "), change_tone(change)),
            "kind": (kind, "plain"),
            "index": (clean_line(change.plan.index), "plain"),
            "table": (clean_line(f"{change.plan.schema}.{change.plan.table}"), "dim"),
            "by": (clean_line(change.requested_by), "plain"),
            "at": (change.state_since.strftime("%m-%d %H:%M:%S"), "dim"),
            "reason": (clean_line(change.reason), "dim"),
        },
    )


class ChangesScreen(ConsoleScreen):
    """The list follows the feed."""

    HELP_TITLE = "Changes"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("enter", "open", "take up", "Take the change under the cursor up where it stands.", 0),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(a for a in ACTIONS if a.name != "open")

    def body(self) -> ComposeResult:
        table = KeyedTable(COLUMNS, empty="no change has been proposed yet", id="changes")
        table.add_class("pane", "fill")
        yield table

    def on_mount(self) -> None:
        self.query_one("#changes").focus()
        super().on_mount()

    def live(self, snapshot: Snapshot) -> None:
        table = self.query_one("#changes", KeyedTable)
        table.set_rows([row_of(c) for c in snapshot.changes])
        open_ = sum(1 for c in snapshot.changes if not c.ended)
        trouble = f" · STALE: {snapshot.changes_error}" if snapshot.changes_error else ""
        known = len(snapshot.changes)
        count = f" · the newest {known}, {open_} of them open" if known else ""
        table.set_title(f"Changes{count}{trouble}")

    def why_not(self, action: Action) -> str:
        if action.name == "open" and self.query_one("#changes", KeyedTable).selected is None:
            return "no change under the cursor"
        return super().why_not(action)

    @on(KeyedTable.Chosen, "#changes")
    def _chosen(self, event: KeyedTable.Chosen) -> None:
        number = int(str(event.key))
        self.work_on(lambda: self.engine.change(number), self.console.walk_change, what="reading the change")

    @on(KeyedTable.Moved)
    def _moved(self) -> None:
        self.refresh_footer()

    def action_back(self) -> None:
        """To the screen before."""
        self.app.pop_screen()
