"""How wide the values of a column are as stored: one by one, from the values that the statistics hold.

The mean width of pg_stats does not tell how many tuples fall on which side of an alignment of 8 bytes.
"""

from __future__ import annotations

from functools import lru_cache

from indexpilot_tui.engine.whatif.arrays import array_items
from indexpilot_tui.engine.whatif.distinct import numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats

Widths = tuple[tuple[int, float], ...]  # bytes and their share of the values that are not NULL; the shares add up to 1
SHORT = 126  # the longest varlena with a header of one byte, without it (VARATT_SHORT_MAX, varatt.h)
MOST = 40  # beyond, the mean says as much
_TEXTS = ("text", "character varying", "citext", "name")


def _text_width(value: str) -> int:
    length = len(value.encode("utf-8", "surrogatepass"))
    return length + (1 if length <= SHORT else 4)


def _cstring_width(value: str) -> int:
    """A name as an index keeps it: its bytes and a zero."""
    return len(value.encode("utf-8", "surrogatepass")) + 1


def _numeric_width(value: str) -> int:
    """A numeric of ordinary size: two bytes of header and two for each digit of base 10,000 (numeric.c, NumericShort)."""
    whole, _, fraction = value.strip().lstrip("-").partition(".")
    groups = -(-len(whole.lstrip("0")) // 4), -(-len(fraction) // 4)
    digits = whole.lstrip("0").rjust(groups[0] * 4, "0") + fraction.ljust(groups[1] * 4, "0")
    parts = [digits[n : n + 4] for n in range(0, len(digits), 4)]
    while parts and parts[-1] == "0000":
        parts.pop()
    while parts and parts[0] == "0000":
        parts.pop(0)
    return 3 + 2 * len(parts)


@lru_cache(maxsize=4096)
def stored_widths(type_: str, stats: ColumnStats) -> Widths:
    """The widths of a column's values; () when the type is not one of those known here, or they are too different."""
    if type_.startswith("numeric"):
        measure = _numeric_width
    elif type_ == "cstring":
        measure = _cstring_width
    elif type_.startswith(_TEXTS):
        measure = _text_width
    else:
        return ()
    common, frequencies = array_items(stats.mcv), numbers(stats.mcf)
    bounds = array_items(stats.histogram)
    if len(common) != len(frequencies) or len(common) + len(bounds) < 2:
        return ()
    rest = max(0.0, 1.0 - float(stats.null_frac) - sum(frequencies)) / len(bounds) if bounds else 0.0
    found: dict[int, float] = {}
    for value, weight in [*zip(common, frequencies, strict=True), *((b, rest) for b in bounds)]:
        width = measure(value)
        found[width] = found.get(width, 0.0) + weight
    total = sum(found.values())
    if total <= 0 or len(found) > MOST:
        return ()
    return tuple((width, weight / total) for width, weight in sorted(found.items()))
