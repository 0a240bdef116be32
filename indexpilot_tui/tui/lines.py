"""Styled lines as plain data: what the Line-API widgets draw, and what their tests compare.

A line is a tuple of spans, a span is (text, tone). A tone is a name such as "ok" or "crit" that the theme turns into a
colour; text is never markup, so nothing that a server says can become a style, a link or an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.cells import cell_len, get_character_cell_size, set_cell_size

from indexpilot_tui.engine.postgres.text import clean

Span: TypeAlias = tuple[str, str]
Line: TypeAlias = tuple[Span, ...]

TONES = ("plain", "dim", "bold", "head", "accent", "ok", "warn", "crit", "add", "del", "badge", "inverse", "alarm")


def flat(text: str) -> str:
    """Make any text safe inside one terminal line: controls become visible marks, tabs and newlines spaces.

    Server text was cleaned when it entered its result type; this is the second fence, for what an operator typed and for
    exceptions. Spaces are kept, so columns stay aligned.
    """
    return clean(text).replace("\n", " ").replace("\t", " ")


def line(*parts: str | Span) -> Line:
    """A line from plain strings and (text, tone) pairs."""
    return tuple((part, "plain") if isinstance(part, str) else part for part in parts)


def text_of(value: Line) -> str:
    """The characters of a line, without tones."""
    return "".join(text for text, _ in value)


def width_of(value: Line) -> int:
    """Terminal cells that a line takes."""
    return sum(cell_len(text) for text, _ in value)


def changed_cells(before: Line, after: Line) -> tuple[int, int | None]:
    """Where two lines differ: first cell, and the cell behind the last one (None: to the right edge).

    Compared by whole spans, and inside a span by characters only where all of them are ASCII, one cell each.
    """
    start = 0
    for old, new in zip(before, after, strict=False):
        if old == new:
            start += cell_len(new[0])
            continue
        if old[1] == new[1] and old[0].isascii() and new[0].isascii():
            start += next((i for i, (a, b) in enumerate(zip(old[0], new[0], strict=False)) if a != b),
                          min(len(old[0]), len(new[0])))  # fmt: skip
        break
    if width_of(before) != width_of(after):
        return start, None
    end = width_of(after)
    for old, new in zip(reversed(before), reversed(after), strict=False):
        if old != new:
            break
        end -= cell_len(new[0])
    return start, max(end, start + 1)


def elide(text: str, width: int) -> str:
    """Cut to `width` cells; a cut text ends with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…"


def pad(text: str, width: int, align: Literal["left", "right"] = "left") -> str:
    """Exactly `width` cells: cut with an ellipsis, or filled with spaces."""
    text = elide(flat(text), width)
    fill = " " * (width - cell_len(text))
    return fill + text if align == "right" else text + fill


def _fitting(text: str, room: int) -> int:
    """How many characters from the left fit into `room` cells (at least one). Looks at no more of the text than that: a
    statement may have 100,000 characters."""
    if text[: room + 1].isascii():
        return min(room, len(text))
    cells = number = 0
    for char in text:
        cells += get_character_cell_size(char)
        if cells > room:
            break
        number += 1
    while number > 1 and cell_len(text[:number]) > room:
        number -= 1
    return max(1, number)


def wrap(text: str, width: int, tone: str = "plain", indent: str = "") -> list[Line]:
    """Fold a text at spaces (or anywhere, where a word is too long) to lines of `width` cells; newlines stay.

    Leading spaces of an original line are kept, so that SQL keeps its shape.
    """
    room = max(8, width - cell_len(indent))
    result: list[Line] = []
    for raw in clean(text).expandtabs(4).split("\n"):
        rest = raw.rstrip()
        if not rest:
            result.append(())
            continue
        while rest:
            cut = _fitting(rest, room)
            piece = rest
            if cut < len(rest):
                space = rest.rfind(" ", 0, cut + 1)
                piece = rest[:space] if space > room // 3 else rest[:cut]
            result.append(((indent + piece.rstrip(), tone),))
            rest = rest[len(piece) :].lstrip()
    return result


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a one-line bar that can shrink: the first form is the longest, the last may be empty.

    `rank`: pieces with a higher rank give way first. `ranks` where the forms of a piece do not weigh the same: one for
    each form but the last.
    """

    forms: tuple[Line, ...]
    rank: int = 0
    ranks: tuple[int, ...] = ()

    def rank_of(self, level: int) -> int:
        """How readily form number `level` is given up for the next."""
        return self.ranks[level] if self.ranks else self.rank


def fit(segments: Sequence[Segment], width: int, separator: str = " │ ") -> Line:
    """The bar in at most `width` cells: shorten the least important piece by one form until all of it fits."""
    level = [0] * len(segments)
    widths = [[width_of(form) for form in s.forms] for s in segments]
    between = cell_len(separator)

    def too_wide() -> bool:
        shown = [w for w in (widths[i][at] for i, at in enumerate(level)) if w]
        return sum(shown) + between * max(0, len(shown) - 1) > width

    while too_wide():
        candidates = [i for i, s in enumerate(segments) if level[i] < len(s.forms) - 1]
        if not candidates:
            break
        worst = max(candidates, key=lambda i: (segments[i].rank_of(level[i]), -level[i]))
        level[worst] += 1
    out: list[Span] = []
    for i, at in enumerate(level):
        if not widths[i][at]:
            continue
        if out:
            out.append((separator, "dim"))
        out.extend(segments[i].forms[at])
    return tuple(out)


def rule(title: str, width: int) -> Line:
    """A section heading that runs to the right edge."""
    head = f"── {title} "
    return ((elide(head, width), "head"), ("─" * max(0, width - cell_len(head)), "dim"))


def bullets(items: Iterable[str], width: int, tone: str = "plain", mark: str = "· ") -> list[Line]:
    """Each item folded, with a mark at its first line and an indent below it."""
    out: list[Line] = []
    for item in items:
        for number, folded in enumerate(wrap(item, width - 2 - len(mark), tone)):
            out.append(((" " + (mark if number == 0 else " " * len(mark)), "dim"), *folded))
    return out
