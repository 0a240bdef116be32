"""The size of a hash index as a build leaves it (hashpage.c: _hash_init_metabuffer, hashutil.c: _hash_spareindex).

Bytes; pages of 8192.
"""

from __future__ import annotations

import math

from indexpilot_tui.engine.whatif.sizes import (
    DEFAULT_FILL,
    HEADER,
    LINE_POINTER,
    PAGE,
    TUPLE_HEADER,
    IndexShape,
    SizeEstimate,
)

_ENTRY = TUPLE_HEADER + 8 + LINE_POINTER  # a hash code, aligned
_ROOM = (PAGE - HEADER - 16) // _ENTRY  # entries a page can hold; 16: HashPageOpaqueData
_WHOLE = 512  # up to here buckets double at once, beyond in quarters (HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE)


def _buckets(wanted: float) -> int:
    power = 1 << max(1, math.ceil(math.log2(max(2.0, wanted))))
    if power <= _WHOLE:
        return power
    half, quarter = power // 2, power // 8
    return half + math.ceil((wanted - half) / quarter) * quarter


def _overflow(load: float, spread: float) -> float:
    """Mean overflow pages of a bucket with `load` entries on average: each multiple of a page's room that is passed costs
    one. `spread`: the variance over that of chance, because equal keys come together."""
    deviation = math.sqrt(max(1e-9, load * spread))
    pages, limit = 0.0, float(_ROOM)
    while limit < load + 6 * deviation:
        pages += 0.5 * math.erfc((limit - load) / (deviation * math.sqrt(2)))
        limit += _ROOM
    return pages


def hash_index(shape: IndexShape) -> SizeEstimate:
    """Buckets for all rows at the fill factor; those that are not split yet when the number of buckets is no power of two
    hold twice as much as the others, and what does not fit on a page goes to overflow pages."""
    fill = (shape.fill or DEFAULT_FILL["hash"]) / 100
    buckets = _buckets(shape.rows / math.floor(PAGE * fill / _ENTRY))
    low = 1 << (buckets.bit_length() - 1)
    distinct = shape.keys[0].distinct if shape.keys else 0.0
    spread = max(1.0, shape.rows / distinct) if distinct > 0 else 1.0
    split, whole = 2 * (buckets - low), 2 * low - buckets
    load = shape.rows / (2 * low)
    overflow = split * _overflow(load, spread) + whole * _overflow(2 * load, spread)
    basis = f"one 16-byte entry a row in {buckets:,} buckets, {overflow:,.0f} overflow pages"
    return SizeEstimate(int(buckets + math.ceil(overflow)) + 2, basis)
