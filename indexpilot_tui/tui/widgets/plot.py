"""A plot over time, drawn by plotext's kernel. plotext is imported when the first plot is shown (0.2 s)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from indexpilot_tui.tui.lines import Line
from indexpilot_tui.tui.widgets.lineview import LineView


def finite(values: Sequence[float | None]) -> list[float]:
    """Values that plotext can take: what is missing or not finite becomes the last good value before it (the first good
    one at the start). An unfiltered NaN aborts the interpreter, an infinity or 1e308 raises.
    """
    limit = 1e15
    good = [float(v) if v is not None and math.isfinite(v) and abs(v) < limit else None for v in values]
    first = next((v for v in good if v is not None), None)
    if first is None:
        return []
    out, last = [], first
    for value in good:
        last = value if value is not None else last
        out.append(last)
    return out


def draw(values: Sequence[float | None], width: int, height: int, at: Sequence[float] | None = None) -> list[str]:
    """The plot as lines of text without colour codes; empty when there is nothing finite or no room.

    `at` are the places on the x axis (as many as values; else the values are counted from 1).
    """
    points = finite(values)
    if not points or width < 20 or height < 4:
        return []
    places = finite(at) if at is not None else []
    if len(places) != len(points):
        places = [float(number) for number in range(1, len(points) + 1)]
    import plotext

    plotext.terminal.limit(False, False)  # else the size is clamped to the tty's
    figure = type(plotext.figure)(plotext.terminal)  # a figure of our own; plotext has no public class for it
    figure.clear.all()
    figure.theme("colorless")
    figure.plot_size(width, height)
    figure.draw(figure.signal(places, points, marker="braille").lines())
    text = str(figure.build().string(colorless=True))
    return text.rstrip("\n").split("\n")


class Plot(LineView, can_focus=False):
    """Redrawn when it gets other values or another size."""

    DEFAULT_CSS = "Plot { height: 1fr; overflow-y: hidden; }"

    def __init__(self, empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._empty = empty
        self._values: tuple[float | None, ...] = ()
        self._at: tuple[float, ...] | None = None

    def show(self, values: Sequence[float | None], at: Sequence[float] | None = None) -> None:
        """Plot these values, oldest first, at these places."""
        self._values, self._at = tuple(values), None if at is None else tuple(at)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        drawn = draw(self._values, self.size.width, self.size.height, self._at)
        lines: list[Line] = [((row, "plain"),) for row in drawn] or [((" " + self._empty, "dim"),)]
        self.set_lines(lines)
