"""Indexes that exist on the shadow only get the size that they would have: the model's, or one that is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from indexpilot_tui.engine.whatif import hollow, sizes
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.shape import mean_key_width, shape_of
from indexpilot_tui.engine.whatif.sizing import index_image, point, read_file, write_file


@dataclass(frozen=True, slots=True)
class Known:
    """A size that is known better than the model knows it. `rows` None: not known; `entries` and `entry_pages` are those of
    a GIN index's metapage (0: not known)."""

    pages: int
    rows: float | None = None
    entries: int = 0
    entry_pages: int = 0


Given = Callable[[MadeIndex], Known | None]  # None: the model's


@dataclass(frozen=True, slots=True)
class Sized:
    """One index (or one part of a partitioned one) with the size that it now has. `notes` tell what was derived for it,
    `reasons` what is not sure about its size (both to be cleaned)."""

    made: MadeIndex
    shape: sizes.IndexShape
    size: sizes.SizeEstimate
    notes: tuple[str, ...]
    reasons: tuple[str, ...]


async def resize(shadow: ShadowDatabase, made: Sequence[MadeIndex], given: Given | None = None) -> list[Sized]:
    """Size and hollow what `index.create` made; partitioned parents have no storage and are passed over.

    Raises psycopg.Error and OSError (the shadow's own trouble).
    """
    snapshot = shadow.snapshot
    by_shadow_oid = {s: t for t, s in shadow.oids.items()}
    await shadow.rows("checkpoint")  # what the build left in shared buffers goes to its file, which is read below
    found: list[Sized] = []
    rows: list[tuple[int, int, int, float, int]] = []
    for m in made:
        if m.partitioned:
            continue
        owner = by_shadow_oid[m.table_oid]
        derived, notes = await derive(shadow, m, snapshot.relations[owner])
        shape, reasons = await shape_of(shadow, m, owner, derived)
        size = sizes.estimate(shape)
        known = given(m) if given is not None else None
        if known is not None:
            if known.rows is not None:
                shape = replace(shape, rows=known.rows)
            elif m.predicate:  # a size tells how many rows a partial index has better than its predicate does
                shape = _rows_for(shape, known.pages)
            counts = (known.entries or size.entries, known.entry_pages or size.entry_pages)
            size = sizes.SizeEstimate(known.pages, "given", False, *counts)
        image = await asyncio.to_thread(image_of, shadow, m, size, shape)
        file = await asyncio.to_thread(write_file, shadow, image, size.pages)
        rows.append((m.oid, file, size.pages, shape.rows, 0))
        found.append(Sized(m, shape, size, tuple(notes), tuple(reasons)))
    if rows:
        await point(shadow, rows)
    return found


def _rows_for(shape: sizes.IndexShape, pages: int) -> sizes.IndexShape:
    """The shape with as many rows as the model needs for `pages` pages."""
    whole = shape.rows / max(shape.share, 1e-9)
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        shape = replace(shape, rows=whole * share, share=share)
        if sizes.estimate(shape).pages < pages:
            low = share
        else:
            high = share
    return shape


def image_of(shadow: ShadowDatabase, m: MadeIndex, size: sizes.SizeEstimate, shape: sizes.IndexShape) -> bytes:
    """What the planner may read at the start of a new index. Blocking; raises OSError."""
    if m.method == "gin":
        return hollow.gin_image(read_file(shadow, m.file), size.pages, size.entries, size.entry_pages)
    return index_image(shadow, m.method, m.file, size.pages, mean_key_width(shape), shape.heap_pages)
