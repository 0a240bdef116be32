"""Relation files without content: the size of production as a hole, and B-trees that have their height but no entries.

The planner takes the page count of a relation from its file, not from the catalog, and the height of a B-tree from its
metapage. Layouts: storage/bufpage.h, access/nbtree.h, access/brin_page.h; needs a cluster without data checksums.
"""

from __future__ import annotations

import math
import struct

from indexpilot_tui.localpg.relfiles import PAGE

_HEADER = 24  # SizeOfPageHeaderData
_BT_SPECIAL = 16  # BTPageOpaqueData
_BT_MAGIC, _BT_VERSION = 0x053162, 4
_BTP_LEAF, _BTP_ROOT, _BTP_META = 1, 2, 8
_BT_PIVOT = 8 | 0x2000  # an index tuple of 8 bytes with INDEX_ALT_TID_MASK: a pivot without attributes
_BRIN_REVMAP_ITEMS = 1360  # REVMAP_PAGE_MAXITEMS at 8 kB
_BRIN_META = struct.Struct("<IIII")  # magic, version, pagesPerRange, lastRevmapPage


def _page(lower: int, upper: int, special: int) -> bytearray:
    page = bytearray(PAGE)
    struct.pack_into("<QHHHHHHI", page, 0, 0, 0, 0, lower, upper, special, PAGE | 4, 0)
    return page


def _btree_meta(root: int, level: int) -> bytes:
    special = PAGE - _BT_SPECIAL
    page = _page(_HEADER + 48, special, special)
    # magic, version, root, level, fastroot, fastlevel, deleted pages, padding, heap tuples at cleanup, allequalimage
    struct.pack_into("<IIIIIIIIdB", page, _HEADER, _BT_MAGIC, _BT_VERSION, root, level, root, level, 0, 0, -1.0, 1)
    struct.pack_into("<IIIHH", page, special, 0, 0, 0, _BTP_META, 0)
    return bytes(page)


def _btree_page(level: int, flags: int, child: int | None) -> bytes:
    """An empty but valid page: a leaf without items, or an inner page with one downlink (minus infinity)."""
    special = PAGE - _BT_SPECIAL
    if child is None:
        page = _page(_HEADER, special, special)
    else:
        upper = special - 8
        page = _page(_HEADER + 4, upper, special)
        struct.pack_into("<HHHH", page, upper, child >> 16, child & 0xFFFF, 0, _BT_PIVOT)
        struct.pack_into("<I", page, _HEADER, upper | (1 << 15) | (8 << 17))  # a normal line pointer
    struct.pack_into("<IIIHH", page, special, 0, 0, level, flags, 0)
    return bytes(page)


def btree_height(pages: int, key_width: float) -> int:
    """The level of the root (0: the root is a leaf) of a B-tree with `pages` pages, metapage included.

    Inner pages are filled to 70 % (BTREE_NONLEAF_FILLFACTOR, nbtree.h); a pivot costs 8 bytes of header, its key
    aligned to 8, and a line pointer of 4. `key_width` is the mean width of the key, bytes.
    """
    fanout = max(2, int((PAGE - _HEADER - _BT_SPECIAL) * 0.7 / (8 + math.ceil(key_width / 8) * 8 + 4)))
    height, level = 0, max(1, pages - 1)
    while level > 1:
        level, height = math.ceil(level / fanout), height + 1
    return height


def btree_image(pages: int, key_width: float) -> bytes:
    """The first pages of a hollow B-tree: metapage, then one page a level from the root down."""
    if pages < 2:
        return _btree_meta(0, 0)
    height = min(btree_height(pages, key_width), pages - 2)
    image = bytearray(_btree_meta(1, height))
    for step, level in enumerate(range(height, -1, -1)):
        flags = (_BTP_ROOT if step == 0 else 0) | (_BTP_LEAF if level == 0 else 0)
        image += _btree_page(level, flags, None if level == 0 else step + 2)
    return bytes(image)


def heightless_btree_image() -> bytes:
    """A hollow B-tree whose height the planner takes for -1, which is what HypoPG says of an index that is not there: no
    descent is charged. The level is unsigned on disk and read as an int (_bt_getrootheight); below it is a valid leaf."""
    unknown = 0xFFFFFFFF
    return _btree_meta(1, unknown) + _btree_page(unknown, _BTP_ROOT, 2) + _btree_page(0, _BTP_LEAF, None)


def brin_image(built: bytes, heap_pages: int) -> bytes:
    """A BRIN index as built on an empty table, its revmap made as long as the table needs (brinGetStats reads that)."""
    magic, version, per_range, _last = _BRIN_META.unpack_from(built, _HEADER)
    revmap = max(1, math.ceil(heap_pages / max(1, per_range) / _BRIN_REVMAP_ITEMS))
    image = bytearray(built)
    _BRIN_META.pack_into(image, _HEADER, magic, version, per_range, revmap)
    return bytes(image)


def gin_image(built: bytes, pages: int, entries: int, entry_pages: int) -> bytes:
    """A GIN index as built on an empty table, with the page and entry counts that a build leaves in the metapage
    (GinMetaPageData: gincostestimate reads them)."""
    if len(built) < PAGE:
        raise OSError("a GIN index as built has no metapage")
    image = bytearray(built)
    data_pages = max(0, pages - 1 - entry_pages)
    struct.pack_into("<III", image, _HEADER + 24, pages, entry_pages, data_pages)
    struct.pack_into("<q", image, _HEADER + 40, entries)
    return bytes(image)
