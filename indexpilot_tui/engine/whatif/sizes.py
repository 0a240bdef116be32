"""How large an index that does not exist yet will be, how long its build takes and what it writes.

Page and tuple layouts are PostgreSQL's own (storage/bufpage.h, access/itup.h, nbtsort.c, nbtdedup.c); figures that are
measured rather than derived say so. Sizes are bytes, pages are of 8192 bytes, times seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

PAGE = 8192
HEADER, LINE_POINTER, TID = 24, 4, 6
BT_SPECIAL = 16
TUPLE_HEADER = 8  # IndexTupleData
INNER_FILL = 0.70  # BTREE_NONLEAF_FILLFACTOR
DEFAULT_FILL = {"btree": 90, "gist": 90, "hash": 75, "spgist": 80}
PAGES_PER_RANGE = 128  # brin default


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Statistics of one index column. `width` is bytes as stored, without alignment; `varying` when rows differ in width;
    `align` 1, 2, 4 or 8; `distinct` the absolute number of distinct values of the whole table that are not NULL
    (0: unknown); `common` the frequencies of the most common values; `widths` the widths and their shares, where known;
    `elements` mean elements a row and `element_kinds` distinct elements (for GIN), `classes` those of gin_elements."""

    width: float
    varying: bool
    align: int
    null_frac: float
    distinct: float
    common: tuple[float, ...] = ()
    elements: float = 1.0
    element_kinds: float = 0.0
    widths: tuple[tuple[int, float], ...] = ()
    classes: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class IndexShape:
    """What a size depends on. `rows` are the rows that the index will hold, `share` their part of the table's; `keys` come
    before `included`. `joint` are the combinations of the keys that there can be at most, where that is known
    (`joint_basis` says why); `between`: the keys are known to be neither independent nor dependent."""

    method: str
    rows: float
    keys: tuple[KeyColumn, ...]
    included: tuple[KeyColumn, ...] = ()
    unique: bool = False
    deduplicate: bool = True
    fill: int | None = None  # per cent
    heap_pages: int = 0
    pages_per_range: int = PAGES_PER_RANGE
    share: float = 1.0
    joint: float = 0.0
    joint_basis: str = ""
    between: bool = False


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """`pages` with the metapage. `basis` tells what the figure rests on; `rough` when it is only an order of magnitude.
    `entries` and `entry_pages` are GIN's."""

    pages: int
    basis: str
    rough: bool = False
    entries: int = 0
    entry_pages: int = 0

    @property
    def size_bytes(self) -> int:
        return self.pages * PAGE


def _aligned(size: float, to: int = 8) -> float:
    return math.ceil(size / to) * to


def tuple_size(columns: Sequence[KeyColumn], *, with_nulls: bool = False) -> float:
    """Mean bytes of one index tuple, aligned, without its line pointer (index_form_tuple). Where widths vary and their
    distribution is not known, a tuple is rounded up by 3.5 bytes on average, not to the next multiple of 8."""
    sizes = {float(TUPLE_HEADER + (8 if with_nulls else 0)): 1.0}  # the null bitmap takes 4 bytes, aligned to 8
    spread = False
    for column in columns:
        widths = column.widths or ((column.width, 1.0),)
        spread = spread or (column.varying and not column.widths)
        grown: dict[float, float] = {}
        for size, weight in sizes.items():
            start = size if column.varying else _aligned(size, column.align)
            for width, part in widths:
                grown[start + width] = grown.get(start + width, 0.0) + weight * part
        sizes = grown
    return sum(w * (s + 3.5 if spread else _aligned(s)) for s, w in sizes.items())


def _other(shape: IndexShape) -> SizeEstimate:
    size = tuple_size([*shape.keys, *shape.included])
    fill = (shape.fill or DEFAULT_FILL.get(shape.method, 80)) / 100
    if shape.method == "hash":
        from indexpilot_tui.engine.whatif.hash_size import hash_index

        return hash_index(shape)
    if shape.method == "brin":
        ranges = max(1, math.ceil(shape.heap_pages / max(1, shape.pages_per_range)))
        entry = _aligned(8 + sum(_aligned(2 * k.width) for k in shape.keys)) + LINE_POINTER
        return SizeEstimate(
            1 + math.ceil(ranges / 1360) + math.ceil(ranges * entry / (PAGE - 40)),
            f"{ranges:,} ranges of {shape.pages_per_range} pages",
        )
    # GiST by insertion and SP-GiST leave pages about 70 % full (measured for int4range and point, not derived)
    leaves = max(1, math.ceil(shape.rows * (size + LINE_POINTER) / ((PAGE - 40) * min(fill, 0.70))))
    return SizeEstimate(1 + leaves + math.ceil(leaves / 60), "tuple layout, pages 70 % full", rough=True)


@lru_cache(maxsize=4096)
def estimate(shape: IndexShape) -> SizeEstimate:
    """The size of an index right after its build."""
    if shape.method == "btree":
        from indexpilot_tui.engine.whatif.btree_size import btree

        return btree(shape)
    if shape.method == "gin":
        from indexpilot_tui.engine.whatif.gin_size import gin

        return gin(shape)
    return _other(shape)


def temp_bytes(shape: IndexShape, maintenance_work_mem: int) -> int:
    """Peak temporary files of the build's sort: rows x (8 + key + 4), none when it fits maintenance_work_mem (measured;
    deduplication happens after the sort). Only B-tree and hash builds sort."""
    if shape.method not in ("btree", "hash"):
        return 0
    need = int(shape.rows * (tuple_size([*shape.keys, *shape.included]) + LINE_POINTER))
    return need if need > maintenance_work_mem else 0


def wal_bytes(size: int) -> int:
    """WAL of one CREATE INDEX CONCURRENTLY: 0.9 x size (measured 0.89 to 0.91, wal_compression off)."""
    return int(size * 0.9)


def build_seconds(shape: IndexShape, size: int, heap_pages: int) -> tuple[float, float]:
    """A range for CREATE INDEX CONCURRENTLY without waiting for other transactions.

    It reads the heap twice. Quick end: 3 GB/s reads from memory, 5 million rows/s sorted, 500 MB/s written; slow end:
    100 MB/s reads, 300 thousand rows/s, 40 MB/s (network disks). Plain builds on 1.2 million rows of 176 MB, two cores,
    warm, took 0.43 to 1.5 s (measured); BRIN, which does not sort, 0.2 s.
    """
    heap = 2.0 * heap_pages * PAGE
    low = heap / 3e9 + (0.0 if shape.method == "brin" else shape.rows / 5e6) + size / 500e6
    high = heap / 100e6 + shape.rows / 3e5 + size / 40e6
    slower = 4.0 if shape.method in ("gin", "gist", "spgist") else 1.0
    return round(max(0.01, low), 2), round(max(0.1, high * slower), 2)


def wal_per_insert(shape: IndexShape) -> float:
    """WAL of one index entry, bytes: record header 24, block reference 20, short data header 2, offset 2
    (xlogrecord.h, nbtxlog.h: XLOG_BTREE_INSERT_LEAF) and the tuple. Page splits and full-page images come on top: up to
    8 kB for the first touch of a page after a checkpoint."""
    return _aligned(24 + 20 + 2 + 2) + tuple_size([*shape.keys, *shape.included])
