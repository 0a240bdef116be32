"""The size of a GIN index as a build leaves it (ginentrypage.c, gindatapage.c, ginpostinglist.c). Bytes; pages of 8192."""

from __future__ import annotations

import math

from indexpilot_tui.engine.whatif.sizes import LINE_POINTER, PAGE, TUPLE_HEADER, IndexShape, SizeEstimate

# entries come in order, and a full page splits in the middle: all but the last stay half full (measured 0.50 to 0.55)
_ENTRY_FILL = 0.52
_DATA_FILL = 0.95
_INLINE = 2704  # GinMaxItemSize: beyond it the row pointers get a tree of their own
_LIST_HEADER = 8  # first item pointer and length of a compressed list


def _up(size: float) -> float:
    return math.ceil(size / 8) * 8


def _varbyte(value: float) -> float:
    return max(1.0, math.ceil(math.log2(max(2.0, value)) / 7))


def _pointer_bytes(each: float, shape: IndexShape) -> float:
    """Mean bytes of one compressed row pointer: varbyte of the distance to the one before, 11 bits of it the line. A pointer
    into the page of the one before it is near; the first one of another page is at least 2048 away."""
    gap = shape.rows / max(1.0, each)
    a_page = max(1.0, shape.rows / max(1, shape.heap_pages))
    crossing = min(1.0, gap / a_page)
    return (1 - crossing) * _varbyte(gap) + crossing * _varbyte(2048 * max(1.0, gap / a_page))


def gin(shape: IndexShape) -> SizeEstimate:
    """A GIN index of all keys' elements; rough, because the statistics know few of them."""
    entry_bytes = data_pages = kinds = pointers = 0.0
    for key in shape.keys:
        groups = key.classes
        if not groups:  # nothing is known: elements by width, as many kinds as a vocabulary has
            count = key.element_kinds or key.distinct or math.sqrt(max(1.0, shape.rows)) * 20
            groups = ((count, max(1.0, key.elements), max(4.0, key.width / max(1.0, key.elements))),)
        for number, share, width in groups:
            total = share * shape.rows
            count = max(1.0, min(number, total))
            each = max(1.0, total / count)
            listed = _LIST_HEADER + (each - 1) * _pointer_bytes(each, shape)
            head = TUPLE_HEADER + width
            if listed > _INLINE:
                entry_bytes += count * (_up(head) + LINE_POINTER)
                data_pages += count * math.ceil(listed / (PAGE * _DATA_FILL))
            else:
                entry_bytes += count * (_up(head + listed) + LINE_POINTER)
            kinds, pointers = kinds + count, pointers + total
    entry_pages = max(1, math.ceil(entry_bytes / (PAGE * _ENTRY_FILL)))
    return SizeEstimate(
        int(2 + entry_pages + data_pages),
        f"about {kinds:,.0f} distinct elements, {pointers:,.0f} row pointers",
        rough=True,
        entries=int(kinds),
        entry_pages=int(entry_pages),
    )
