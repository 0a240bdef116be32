"""A widget of styled lines that repaints only the lines that changed (Textual's Line API)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.segment import Segment as RichSegment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from indexpilot_tui.tui.lines import Line, changed_cells, flat
from indexpilot_tui.tui.widgets.lean import Lean


class LineView(Lean, ScrollView, can_focus=True):
    """Shows `Line`s and scrolls. `set_lines` compares with what is shown and repaints the difference."""

    DEFAULT_CSS = """
    LineView {
        overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; scrollbar-gutter: stable;
        background: $background; color: $foreground;
        scrollbar-background: $background; scrollbar-background-hover: $background;
        scrollbar-color: $panel; scrollbar-color-hover: $panel; scrollbar-color-active: $primary;
    }
    """

    def __init__(
        self,
        lines: Sequence[Line] = (),
        *,
        id: str | None = None,
        classes: str | None = None,
        grow: int = 0,
        focusable: bool = True,
    ) -> None:
        """`grow`: the height follows the content up to so many lines; 0: the height comes from the style sheet."""
        super().__init__(id=id, classes=classes)
        self.can_focus = focusable
        self._grow = grow
        self._lines: tuple[Line, ...] = tuple(lines)
        self._title = ""
        self._tones: dict[str, Style] = {}  # resolving one takes Textual longer than drawing a cell with it
        self.virtual_size = Size(1, len(self._lines))

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is shown now."""
        return self._lines

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Show these lines; only those that differ are repainted."""
        new, old = tuple(lines), self._lines
        if new == old:
            return
        self._lines = new
        if len(new) != len(old):
            self.virtual_size = Size(1, len(new) + self.header_height)
            self._grown()
        for index in range(max(len(new), len(old))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            if before is None or after is None:
                self.refresh_line(index + self.header_height)
            elif before != after:
                self.refresh_cells(index + self.header_height, *changed_cells(before, after))

    def on_mount(self) -> None:
        self._grown()

    def _grown(self) -> None:
        # an explicit height, not `auto`: a box that was measured while still empty stays in Textual's cache
        if self._grow:
            wanted = min(self._grow, len(self._lines) + self.header_height) + self.styles.gutter.height
            self.styles.height = max(1, wanted)

    def set_title(self, title: str) -> None:
        """The title in the frame; it is text, not markup."""
        if title != self._title:
            self._title = title
            self.border_title = Content(flat(title))

    def refresh_cells(self, y: int, start: int, end: int | None) -> None:
        """Repaint cells `start` to before `end` (None: the right edge) of line `y` of the content: a clock that moves on
        costs a few bytes and not a line."""
        last = self.size.width if end is None else end
        self.refresh(Region(start, y - self.scroll_offset.y, max(1, last - start), 1))

    @property
    def header_height(self) -> int:
        """Lines at the top that do not scroll."""
        return 0

    @property
    def line_width(self) -> int:
        """Cells that a line has for text."""
        return max(1, self.scrollable_content_region.width)

    def tone(self, name: str) -> Style:
        """The theme's style of a tone, on this widget's ground."""
        style = self._tones.get(name)
        if style is None:
            drawn = self.screen.get_component_rich_style(f"line--{name}", partial=True, default=Style())
            style = self._tones[name] = self.rich_style + drawn
        return style

    def render_line(self, y: int) -> Strip:
        """One line of the viewport."""
        index = y + self.scroll_offset.y
        return self.strip_of(self._lines[index] if 0 <= index < len(self._lines) else ())

    def strip_of(self, value: Line, over: Style | None = None) -> Strip:
        """A line as a strip that fills the widget; `over` is laid over every tone (the cursor)."""
        own = self._tones.get("")
        if own is None:
            own = self._tones[""] = self.rich_style
        base = own if over is None else own + over
        segments = []
        for text, name in value:
            style = self.tone(name)
            if over is not None:
                style = style + Style(bgcolor=over.bgcolor, bold=over.bold)
            segments.append(RichSegment(flat(text), style))
        return Strip(segments).crop(0, self.size.width).extend_cell_length(self.size.width, base)

    def notify_style_update(self) -> None:
        """A new theme, focus or class: every line is drawn again, in styles that are looked up anew."""
        self._tones.clear()
        super().notify_style_update()
        self.refresh()

    def render(self) -> Any:
        """Never used (render_line is), but ScrollView's own would show a debug panel."""
        return ""
