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
_MANY = 200.0  # values a bucket from which a normal distribution stands for the Poisson one


def _buckets(wanted: float) -> int:
    power = 1 << max(1, math.ceil(math.log2(max(2.0, wanted))))
    if power <= _WHOLE:
        return power
    half, quarter = power // 2, power // 8
    return half + math.ceil((wanted - half) / quarter) * quarter


def _overflow(entries: float) -> float:
    """Overflow pages of a bucket that holds exactly so many entries."""
    return max(0.0, math.ceil(entries / _ROOM) - 1.0)


def _mean_overflow(load: float, each: float) -> float:
    """Mean overflow pages of a bucket with `load` entries on average, `each` entries a value: the values of a bucket are
    Poisson distributed, and equal keys come together."""
    values = load / each
    if values <= _MANY:
        weight, pages = math.exp(-values), 0.0
        for count in range(1, math.ceil(values + 12 * math.sqrt(values)) + 12):
            weight *= values / count
            pages += weight * _overflow(count * each)
        return pages
    deviation = math.sqrt(load * each)
    pages, limit = 0.0, float(_ROOM)
    while limit < load + 6 * deviation:  # each multiple of a page's room that is passed costs a page
        pages += 0.5 * math.erfc((limit - load) / (deviation * math.sqrt(2)))
        limit += _ROOM
    return pages


def hash_index(shape: IndexShape) -> SizeEstimate:
    """Buckets for all rows of the table at the fill factor (hash.c: hashbuild heeds no predicate and no NULLs, which are
    not stored); those that are not split yet when the number of buckets is no power of two hold twice as much as the others,
    and what does not fit on a page goes to overflow pages. A value with more rows than a page has room for fills its own."""
    fill = (shape.fill or DEFAULT_FILL["hash"]) / 100
    table = shape.rows / shape.share if shape.share > 0 else shape.rows
    buckets = _buckets(table / math.floor(PAGE * fill / _ENTRY))
    low = 1 << (buckets.bit_length() - 1)
    key = shape.keys[0] if shape.keys else None
    stored = shape.rows * (1.0 - key.null_frac) if key else shape.rows
    heavy = [f * shape.rows for f in key.common if f * shape.rows > _ROOM] if key else []
    light = max(0.0, stored - sum(heavy))
    # without a known number of values each is taken to be unique; a value has one row at least
    distinct = min(light, max(1.0, key.distinct - len(heavy))) if key and key.distinct > 0 else light
    overflow = sum(rows / _ROOM for rows in heavy)
    if distinct > 0:
        each, load = light / distinct, light / (2 * low)
        split, whole = 2 * (buckets - low), 2 * low - buckets
        overflow += split * _mean_overflow(load, each) + whole * _mean_overflow(2 * load, each)
    basis = f"one 16-byte entry a row in {buckets:,} buckets, {overflow:,.0f} overflow pages"
    return SizeEstimate(int(buckets + math.ceil(overflow)) + 2, basis)
