"""The size of a B-tree as a build leaves it: tuples, deduplication, and how full pages become.

nbtsort.c (_bt_buildadd, _bt_sort_dedup_finish_pending), nbtdedup.c, access/nbtree.h. Bytes; pages of 8192.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from indexpilot_tui.engine.whatif.sizes import (
    DEFAULT_FILL,
    HEADER,
    INNER_FILL,
    LINE_POINTER,
    PAGE,
    TID,
    IndexShape,
    KeyColumn,
    SizeEstimate,
    tuple_size,
)

_SPECIAL = 16  # BTPageOpaqueData
_ROOM = PAGE - HEADER - _SPECIAL - LINE_POINTER  # of a leaf, the line pointer of its high key taken off
_POSTING = 812  # maxpostingsize of a build: MAXALIGN_DOWN(BLCKSZ * 10 / 100) - sizeof(ItemIdData)
_MANY = 30.0  # duplicates from which their number may be taken as its mean
_FINEST = 64  # groups of values that are followed when columns are combined
_MOST = 250  # values of one column that are followed one by one

Groups = list[tuple[float, float]]  # (share of the rows that one value has, number of such values)


def _poisson(rate: float, most: int) -> list[float]:
    """Probabilities of 0..most occurrences."""
    terms = [math.exp(-rate)]
    for k in range(1, most + 1):
        terms.append(terms[-1] * rate / k)
    return terms


def _up(size: float) -> float:
    return math.ceil(size / 8) * 8


def _packed(count: float, size: float) -> float:
    """Leaf bytes of `count` equal keys: posting tuples of at most _POSTING bytes; `size` is the plain tuple's."""
    if count <= 1:
        return count * (size + LINE_POINTER)
    most = max(2, int((_POSTING - size) // TID))
    full, rest = divmod(count, most)
    total = full * (_up(size + most * TID) + LINE_POINTER)
    if rest > 1:
        total += _up(size + rest * TID) + LINE_POINTER
    elif rest > 0:
        total += rest * (size + LINE_POINTER)
    return total


def _pool(distinct: float, rows: float) -> float:
    """Of how many values, drawn at random `rows` times, `distinct` have occurred: D = P (1 - exp(-N / P))."""
    ratio = distinct / rows if rows > 0 else 1.0
    if ratio > 0.999:  # as good as unique
        return distinct * 1000
    low, high = 1e-3, max(2.0, 2 / ratio)
    for _ in range(50):  # of the mean number of draws a value
        middle = (low + high) / 2
        if -math.expm1(-middle) / middle > ratio:
            low = middle
        else:
            high = middle
    return rows / low


def _column(key: KeyColumn, rows: float) -> Groups:
    """The values of one column of a table of `rows` rows by how frequent they are; NULL is one of them. All but the common
    ones are as if drawn at random from a pool."""
    found: Groups = [(f, 1.0) for f in key.common]
    if key.null_frac > 0:
        found.append((key.null_frac, 1.0))
    rest, values = 1.0 - key.null_frac - sum(key.common), key.distinct - len(key.common)
    if rest > 1e-9 and values > 0:
        pool = _pool(max(1.0, values), rest * rows)
        found.append((rest / pool, pool))
    return found


def _alike(groups: Iterable[tuple[float, float]], parts: int) -> Groups:
    """Groups that are about equally frequent (`parts` classes to each doubling) become one; the most frequent first."""
    buckets: dict[int, tuple[float, float]] = {}
    for share, count in groups:
        at = round(math.log2(share) * parts) if share > 0 else -400
        total, values = buckets.get(at, (0.0, 0.0))
        buckets[at] = (total + share * count, values + count)
    return sorted(((total / values, values) for total, values in buckets.values()), reverse=True)


def _combined(a: Groups, b: Groups) -> Groups:
    """Two independent columns; combinations that are about equally frequent become one group."""
    # a statistics target of 10,000 makes 100 million pairs
    a, b = (_alike(x, 16) if len(x) > _MOST else x for x in (a, b))
    made = _alike(((share_a * share_b, count_a * count_b) for share_a, count_a in a for share_b, count_b in b), 3)
    return made if len(made) <= _FINEST else [*made[: _FINEST - 1], _merged(made[_FINEST - 1 :])]


def _merged(groups: Groups) -> tuple[float, float]:
    values = sum(n for _, n in groups)
    return sum(s * n for s, n in groups) / values, values


def _expected(groups: Groups, rows: float) -> float:
    """How many of the values occur among `rows` rows."""
    return sum(count * -math.expm1(-share * rows) for share, count in groups)


def _leaf_bytes(groups: Groups, rows: float, size: float, null_share: float) -> float:
    """Bytes of all leaf tuples, chance deciding how often each value occurs. NULLs alone take 16 bytes."""
    total = 0.0
    for share, count in groups:
        mean = share * rows
        width = 16.0 if null_share and share == null_share and count == 1 else size
        if mean > _MANY:
            total += count * _packed(mean, width)
        else:
            terms = _poisson(mean, int(mean + 8 * math.sqrt(mean) + 12))
            total += count * sum(p * _packed(k, width) for k, p in enumerate(terms))
    return total


def _filled(size: float, fill: float, *, posting: bool) -> float:
    """Mean bytes of tuples on a leaf. A page is closed when the next tuple does not fit, or when the fill factor is passed,
    not counting what the posting list of the last tuple takes; then its last tuple moves to the next page."""
    passed = _ROOM - PAGE * (1 - fill)
    if not posting:
        return max(size, passed - size / 2)
    by_space = (_ROOM // size - 1) * size if size > _POSTING * 0.9 else _ROOM - 1.5 * size
    return max(size, min(passed + size / 2, by_space))


def _groups(shape: IndexShape) -> tuple[Groups, str]:
    """The combinations of all key columns, and what that rests on."""
    whole = shape.rows / max(shape.share, 1e-9)
    groups = _column(shape.keys[0], whole)
    for key in shape.keys[1:]:
        groups = _combined(groups, _column(key, whole))
    if len(shape.keys) == 1:
        return groups, ""
    if 0 < shape.joint < _expected(groups, whole):
        pool = _pool(max(1.0, shape.joint), whole)
        return [(1.0 / pool, pool)], shape.joint_basis
    return groups, "its columns are taken as independent, so it may come out smaller"


def _fewest(shape: IndexShape) -> Groups:
    """As if the column with the most values decided all the others."""
    return _column(max(shape.keys, key=lambda k: k.distinct), shape.rows / max(shape.share, 1e-9))


def _leaves(shape: IndexShape, groups: Groups | None, size: float) -> float:
    """Leaf pages; `groups` None: without deduplication."""
    fill = (shape.fill or DEFAULT_FILL["btree"]) / 100
    plain = shape.rows * (size + LINE_POINTER)
    unpacked = plain / _filled(size + LINE_POINTER, fill, posting=False)
    if groups is None:
        return unpacked
    null_share = shape.keys[0].null_frac if len(shape.keys) == 1 else 0.0
    packed = min(plain, _leaf_bytes(groups, shape.rows, size, null_share))
    if packed > plain * 0.97:
        return packed / _filled(size + LINE_POINTER, fill, posting=False)
    # the tuples that most of the bytes are in
    largest = _up(size + max(2, int((_POSTING - size) // TID)) * TID) + LINE_POINTER
    weights = [(s * n, min(largest, _packed(max(1.0, s * shape.rows), size))) for s, n in groups]
    typical = sum(w * b for w, b in weights) / max(1e-12, sum(w for w, _ in weights))
    return packed / _filled(typical, fill, posting=True)


def btree(shape: IndexShape) -> SizeEstimate:
    """The size of a B-tree right after its build."""
    size = tuple_size([*shape.keys, *shape.included])
    known = all(k.distinct > 0 for k in shape.keys)
    basis, rough = "tuple layout and statistics", not known
    if not shape.deduplicate or shape.included or shape.unique:
        leaves = _leaves(shape, None, size)
        rough = False
    elif not known:
        leaves = _leaves(shape, None, size)
        basis = "tuple layout; no statistics to model deduplication with, so it may come out smaller"
    else:
        groups, note = _groups(shape)
        leaves = _leaves(shape, groups, size)
        count = _expected(groups, shape.rows)
        basis = f"tuple layout, statistics and deduplication of about {count:,.0f} distinct keys"
        if shape.between:
            least = _leaves(replace(shape, between=False), _fewest(shape), size)
            leaves = math.sqrt(leaves * least)
            note = shape.joint_basis
        basis += f"; {note}" if note else ""
    return SizeEstimate(_pages(math.ceil(leaves) if shape.rows >= 1 else 0, size), basis, rough=rough)


def _pages(leaves: int, size: float) -> int:
    """All pages: leaves, inner pages (filled to 70 %) and the metapage."""
    fanout = max(2.0, (PAGE - HEADER - _SPECIAL) * INNER_FILL / (size + LINE_POINTER))
    pages = level = leaves
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
    return pages + 1


__all__: Sequence[str] = ("btree",)
