"""Widgets that keep no second picture of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Container, Vertical
from textual.geometry import Region
from textual.strip import Strip

if TYPE_CHECKING:
    from textual.widget import Widget
else:
    Widget = object  # a style sheet knows a widget by the first of its bases that is one: this must not be it


class Lean(Widget):
    """Gives its lines to be painted as copies: Textual keeps with a line every part that was ever cut out of it, which were
    2,000 objects of 1 kB for a dashboard, most of them of what lies behind the panes."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a part of the widget."""
        width = self.region.width
        copies = [Strip(list(s), s.cell_length) for s in super().render_lines(Region(0, crop.y, width, crop.height))]
        return copies if crop.column_span == (0, width) else [strip.crop(*crop.column_span) for strip in copies]


class Ground(Lean):
    """What only lies behind others: without a frame all its lines are one."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a part of the widget."""
        if self.styles.gutter:
            return super().render_lines(crop)
        width = self.region.width
        line = super(Lean, self).render_lines(Region(0, 0, width, 1))[0]
        return [line if crop.column_span == (0, width) else line.crop(*crop.column_span)] * crop.height


class LeanVertical(Ground, Vertical):
    """From top to bottom."""


class LeanContainer(Ground, Container):
    """As its style sheet lays it out."""
