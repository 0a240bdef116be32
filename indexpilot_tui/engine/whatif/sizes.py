"""How large an index that does not exist yet will be, how long its build takes and what it writes.

Page and tuple layouts are PostgreSQL's own (storage/bufpage.h, access/itup.h, nbtsort.c, nbtdedup.c); figures that are
measured rather than derived say so. Sizes are bytes, pages are of 8192 bytes, times seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 8192
HEADER, LINE_POINTER, TID = 24, 4, 6
BT_SPECIAL = 16
TUPLE_HEADER = 8  # IndexTupleData
POSTING_LIMIT = PAGE * 10 // 100 - LINE_POINTER  # maxpostingsize of a build, nbtsort.c: (BLCKSZ * 10 / 100) aligned
INNER_FILL = 0.70  # BTREE_NONLEAF_FILLFACTOR
DEFAULT_FILL = {"btree": 90, "gist": 90, "hash": 75, "spgist": 80}
GIN_TID_BYTES = 2.0  # varbyte-encoded deltas of posting lists are 1 to 6 bytes; dense lists near 1 (ginpostinglist.c)
PAGES_PER_RANGE = 128  # brin default


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Statistics of one index column. `width` is bytes as stored, without alignment; `varying` when rows differ in width;
    `align` 1, 2, 4 or 8; `distinct` the absolute number of distinct values that are not NULL (0: unknown);
    `common` the frequencies of the most common values; `elements` mean elements a row and `element_kinds` distinct
    elements (for GIN)."""

    width: float
    varying: bool
    align: int
    null_frac: float
    distinct: float
    common: tuple[float, ...] = ()
    elements: float = 1.0
    element_kinds: float = 0.0


@dataclass(frozen=True, slots=True)
class IndexShape:
    """What a size depends on. `rows` are the rows that the index will hold; `keys` come before `included`."""

    method: str
    rows: float
    keys: tuple[KeyColumn, ...]
    included: tuple[KeyColumn, ...] = ()
    unique: bool = False
    deduplicate: bool = True
    fill: int | None = None  # per cent
    heap_pages: int = 0
    pages_per_range: int = PAGES_PER_RANGE


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
    """Bytes of one index tuple, aligned, without its line pointer (index_form_tuple). A width that varies between rows
    is rounded up by 3.5 bytes on average, not to the next multiple of 8."""
    size = float(TUPLE_HEADER + (8 if with_nulls else 0))  # the null bitmap takes 4 bytes, aligned to 8
    for column in columns:
        if not column.varying:
            size = _aligned(size, column.align)
        size += column.width
    return size + 3.5 if any(c.varying for c in columns) else _aligned(size)


def _poisson(rate: float, most: int) -> list[float]:
    """Probabilities of 0..most occurrences."""
    terms = [math.exp(-rate)]
    for k in range(1, most + 1):
        terms.append(terms[-1] * rate / k)
    return terms


def _group_bytes(count: float, size: float, header: float) -> float:
    """Leaf bytes of `count` duplicates of one value after deduplication (_bt_dedup at build, _bt_sort_dedup_finish_pending):
    posting tuples of at most POSTING_LIMIT bytes, `header` being tuple header and key."""
    if count <= 1:
        return count * (size + LINE_POINTER)
    most = max(2, int((POSTING_LIMIT - header) // TID))
    full, rest = divmod(count, most)
    total = full * (_aligned(header + most * TID) + LINE_POINTER)
    if rest > 1:
        total += _aligned(header + rest * TID) + LINE_POINTER
    elif rest > 0:
        total += rest * (size + LINE_POINTER)
    return total


def _combined(shape: IndexShape) -> tuple[float, tuple[float, ...]]:
    """Distinct keys of all columns together, and the common frequencies where one column is all there is.

    Columns are taken as independent, as the planner takes them; drawing N rows from D combinations leaves
    D (1 - exp(-N / D)) of them.
    """
    known = [k for k in shape.keys if k.distinct > 0]
    if not known or len(known) < len(shape.keys):
        return 0.0, ()
    if len(known) == 1:
        return known[0].distinct, known[0].common
    product = 1.0
    for key in known:
        product = min(product * max(1.0, key.distinct), 1e15)
    best = max(k.distinct for k in known)
    return max(best, product * -math.expm1(-shape.rows / product)), ()


def _deduplicated(shape: IndexShape, size: float, distinct: float, common: tuple[float, ...]) -> float:
    """Leaf bytes of all tuples of a deduplicated B-tree."""
    header = _aligned(size) if not any(k.varying for k in shape.keys) else size
    nulls = shape.rows * (shape.keys[0].null_frac if len(shape.keys) == 1 else 0.0)
    total = _group_bytes(nulls, 16, 16) if nulls else 0.0
    rows = shape.rows - nulls
    for frequency in common:
        total += _group_bytes(min(frequency * shape.rows, rows), size, header)
    rest = max(0.0, rows - sum(common) * shape.rows)
    values = max(distinct - len(common), 0.0)
    if rest <= 0 or values < 1:
        return total + rest * (size + LINE_POINTER)
    mean = rest / values
    if mean > 30:
        return total + values * _group_bytes(mean, size, header)
    if mean <= 1.02:  # as good as unique
        return total + rest * (size + LINE_POINTER)
    # the number of duplicates varies between values: at least one each, the others by chance
    terms = _poisson(mean - 1, int(mean + 8 * math.sqrt(mean) + 12))
    each = sum(p * _group_bytes(k + 1, size, header) for k, p in enumerate(terms))
    return total + values * each


def _btree(shape: IndexShape) -> SizeEstimate:
    size = tuple_size([*shape.keys, *shape.included])
    plain = shape.rows * (size + LINE_POINTER)
    basis = "tuple layout and statistics"
    distinct, common = _combined(shape)
    leaf_bytes = plain
    if shape.deduplicate and not shape.included and not shape.unique:
        if distinct > 0:
            leaf_bytes = min(plain, _deduplicated(shape, size, distinct, common))
            basis = f"tuple layout, statistics and deduplication of about {distinct:,.0f} distinct keys"
            if len(shape.keys) > 1:
                basis += "; its columns are taken as independent, so it may come out smaller"
        else:
            basis = "tuple layout; no statistics to model deduplication with, so it may come out smaller"
    fill = (shape.fill or DEFAULT_FILL["btree"]) / 100
    high_key = size + LINE_POINTER
    usable = max(high_key, (PAGE - HEADER - BT_SPECIAL) - PAGE * (1 - fill) - high_key)
    # a page is closed when the next tuple no longer fits: with posting lists half of one stays free on average
    biggest = min(POSTING_LIMIT, leaf_bytes / max(1.0, distinct)) if leaf_bytes < plain else 0.0
    leaves = max(1, math.ceil(leaf_bytes / max(1.0, usable - biggest / 2))) if shape.rows >= 1 else 0
    fanout = max(2.0, (PAGE - HEADER - BT_SPECIAL) * INNER_FILL / (size + LINE_POINTER))
    pages, level = leaves, leaves
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
    return SizeEstimate(pages + 1, basis, rough=distinct <= 0)


def _gin(shape: IndexShape) -> SizeEstimate:
    total_tids = sum(max(1.0, k.elements) for k in shape.keys) * shape.rows
    kinds = sum(k.element_kinds or k.distinct or math.sqrt(max(1.0, shape.rows)) * 20 for k in shape.keys)
    kinds = min(kinds, total_tids) or 1.0
    per_entry = total_tids / kinds
    width = max((k.width / max(1.0, k.elements) for k in shape.keys), default=8.0)
    entry = _aligned(TUPLE_HEADER + max(4.0, width)) + LINE_POINTER
    posting = per_entry * GIN_TID_BYTES
    if posting > 1500:  # GinMaxItemSize is about 2.7 kB: beyond it the list becomes a tree of its own
        entry_bytes, data_pages = kinds * (entry + 8), kinds * math.ceil(posting / (PAGE * 0.95))
    else:
        entry_bytes, data_pages = kinds * (entry + posting), 0
    entry_pages = max(1, math.ceil(entry_bytes / (PAGE * 0.72)))
    return SizeEstimate(
        int(1 + entry_pages + data_pages),
        f"{kinds:,.0f} distinct elements, {total_tids:,.0f} row pointers of about {GIN_TID_BYTES:g} bytes",
        rough=True,
        entries=int(kinds),
        entry_pages=int(entry_pages),
    )


def _other(shape: IndexShape) -> SizeEstimate:
    size = tuple_size([*shape.keys, *shape.included])
    fill = (shape.fill or DEFAULT_FILL.get(shape.method, 80)) / 100
    if shape.method == "hash":  # 8-byte tuples hold a hash code; buckets are powers of two in quarters (hashpage.c)
        buckets = max(2.0, shape.rows / (PAGE * fill / (TUPLE_HEADER + 8 + LINE_POINTER)))
        phase = 2.0 ** math.floor(math.log2(buckets))
        step = max(1.0, phase / 4)
        return SizeEstimate(
            int(math.ceil(buckets / step) * step) + 2, "one 16-byte entry a row, buckets by powers of two in quarters"
        )
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


def estimate(shape: IndexShape) -> SizeEstimate:
    """The size of an index right after its build."""
    if shape.method == "btree":
        return _btree(shape)
    if shape.method == "gin":
        return _gin(shape)
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
