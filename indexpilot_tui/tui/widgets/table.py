"""A table whose cursor belongs to a key, not to a row number: a live re-sort cannot move it to another object."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from indexpilot_tui.tui.lines import Line, Span, elide, pad, wrap
from indexpilot_tui.tui.widgets.lineview import LineView


@dataclass(frozen=True, slots=True)
class Column:
    """`width` in cells (0: takes what is left); shown only where the table has at least `from_width` cells. `shorten` makes
    a text that is too long fit; without it the end is cut off."""

    id: str
    title: str
    width: int
    align: Literal["left", "right"] = "left"
    from_width: int = 0
    shorten: Callable[[str, int], str] = elide


@dataclass(frozen=True, slots=True)
class Row:
    """`cells` by column id; a missing one is empty. `mark` is the sign before the row (one cell)."""

    key: Hashable
    cells: dict[str, Span]
    mark: Span = (" ", "plain")


class KeyedTable(LineView):
    """Rows with a cursor. Enter posts `Chosen` with the key under the cursor at that moment."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", show=False),
        Binding("down,j", "cursor(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "edge(0)", show=False),
        Binding("end,G", "edge(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Chosen(Message):
        """Enter on a row."""

        def __init__(self, table: KeyedTable, key: Hashable) -> None:
            self.table, self.key = table, key
            super().__init__()

        @property
        def control(self) -> KeyedTable:
            return self.table

    class Moved(Message):
        """The cursor is on another key."""

        def __init__(self, table: KeyedTable, key: Hashable | None) -> None:
            self.table, self.key = table, key
            super().__init__()

        @property
        def control(self) -> KeyedTable:
            return self.table

    def __init__(self, columns: Sequence[Column], *, empty: str = "", id: str | None = None, grow: int = 0) -> None:
        self._columns = tuple(columns)
        self._rows: tuple[Row, ...] = ()
        self._key: Hashable | None = None
        self._near = 0  # where the cursor was, for the next move after its row has gone
        self._empty = empty
        self._sorted_by = ""
        self._drawn_width = 0
        super().__init__(id=id, grow=grow)

    @property
    def header_height(self) -> int:
        return 1

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._rows

    @property
    def selected(self) -> Hashable | None:
        """The key under the cursor; None when its row is not there now."""
        return self._key if self._index() is not None else None

    def _index(self) -> int | None:
        return next((i for i, row in enumerate(self._rows) if row.key == self._key), None)

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns from the next `set_rows` on."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self.refresh()

    def set_rows(self, rows: Sequence[Row], *, sorted_by: str = "", empty: str | None = None) -> None:
        """Show these rows. The cursor stays on its key; if that has gone, nothing is selected until it comes back or the
        cursor is moved: a key press meant for one object must not reach another."""
        self._rows = tuple(rows)
        if empty is not None:
            self._empty = empty
        if sorted_by != self._sorted_by:
            self._sorted_by = sorted_by
            self.refresh_line(0)
        if self._key is None and self._rows:
            self._key = self._rows[0].key
        index = self._index()
        if index is not None:
            self._near = index
        self._draw()

    def select(self, key: Hashable | None) -> None:
        """Put the cursor on a key (None: on the first row)."""
        self._key = key if key is not None else (self._rows[0].key if self._rows else None)
        self._follow()

    def start_over(self) -> None:
        """What is shown next are other things: the cursor goes to the first of them."""
        self._key, self._near = None, 0

    def action_cursor(self, step: int) -> None:
        """Move by rows."""
        self._go((self._near if self._index() is None else self._near + step) if self._rows else 0)

    def action_page(self, direction: int) -> None:
        """Move by a screenful."""
        self._go(self._near + direction * max(1, self.size.height - 2))

    def action_edge(self, where: int) -> None:
        """First (0) or last (-1) row."""
        self._go(0 if where == 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Enter."""
        if (key := self.selected) is not None:
            self.post_message(self.Chosen(self, key))

    def _go(self, index: int) -> None:
        if not self._rows:
            return
        self._near = max(0, min(index, len(self._rows) - 1))
        self._key = self._rows[self._near].key
        self._follow()

    def _follow(self) -> None:
        """Redraw the rows that changed, bring the cursor into view, tell the pane."""
        index = self._index()
        if index is not None:
            self._near = index
            room = max(1, self.size.height - self.header_height)
            top = self.scroll_offset.y
            if index < top:
                self.scroll_to(y=index, animate=False, immediate=True)
            elif index >= top + room:
                self.scroll_to(y=index - room + 1, animate=False, immediate=True)
        self._draw()
        self.post_message(self.Moved(self, self.selected))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor (where mouse support is on); it does not act."""
        self._go(event.y - self.header_height + self.scroll_offset.y)

    def on_resize(self) -> None:
        """Another width, other columns."""
        if self._drawn_width != self.line_width:
            self._draw()
            self.refresh()

    def watch_has_focus(self, value: bool) -> None:
        """The cursor looks different where keys go elsewhere."""
        super().watch_has_focus(value)
        index = self._index()
        if index is not None:
            self.refresh_line(index + self.header_height)

    def _layout(self, width: int) -> list[tuple[Column, int]]:
        shown = [column for column in self._columns if width >= column.from_width]
        taken = sum(column.width for column in shown) + len(shown)
        left = max(4, width - 2 - taken)
        flexible = sum(1 for column in shown if column.width == 0)
        return [(column, column.width or left // max(1, flexible)) for column in shown]

    def _draw(self) -> None:
        width = self._drawn_width = self.line_width
        layout = self._layout(width)
        lines: list[Line] = []
        for row in self._rows:
            here = row.key == self._key
            spans: list[Span] = [("▶", "accent") if here else (" ", "plain"), row.mark]
            for number, (column, cells) in enumerate(layout):
                text, tone = row.cells.get(column.id, ("", "plain"))
                spans.append(((" " if number else "") + pad(column.shorten(text, cells), cells, column.align), tone))
            lines.append(tuple(spans))
        if not lines and self._empty:
            lines += wrap(self._empty, width, "dim", indent="  ")
        self.set_lines(lines)
        self.virtual_size = Size(1, len(lines) + self.header_height)

    def _header(self) -> Line:
        spans: list[Span] = [("  ", "dim")]
        for number, (column, cells) in enumerate(self._layout(self.line_width)):
            title = column.title + ("▼" if column.id == self._sorted_by else "")
            tone = "accent" if column.id == self._sorted_by else "dim"
            spans.append(((" " if number else "") + pad(title, cells, column.align), tone))
        return tuple(spans)

    def refresh_line(self, y: int) -> None:
        """Line `y` of the content (the header is line 0 and does not scroll)."""
        from textual.geometry import Region

        top = 0 if y == 0 else y - self.scroll_offset.y
        if 0 <= top <= self.size.height:
            self.refresh(Region(0, top, max(1, self.size.width), 1))

    def refresh_cells(self, y: int, start: int, end: int | None) -> None:
        """Where the cursor came or went (the first cell) the whole row looks different."""
        if start == 0:
            self.refresh_line(y)
        elif 0 < y - self.scroll_offset.y <= self.size.height:
            super().refresh_cells(y, start, end)

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self.strip_of(self._header())
        index = y - 1 + self.scroll_offset.y
        value = self.lines[index] if 0 <= index < len(self.lines) else ()
        here = 0 <= index < len(self._rows) and self._rows[index].key == self._key
        return self.strip_of(value, self.tone("cursor") if here and self.has_focus else None)
