"""How fast this target builds indexes: the general model, or the rates of earlier builds where the journal has any."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.whatif import sizes
from indexpilot_tui.engine.whatif.sizes import PAGE, IndexShape

NEWEST = 8  # builds of a method that are looked at
_SHORTEST_S = 0.05  # a build that took less says nothing of a rate
_SMALLEST = 500_000  # bytes read and written
_FAR = 10.0  # times the largest measured build, from where its rate may not hold (the sort leaves the memory)
# how far a range goes beyond what was measured, by the number of builds
_MARGINS = {1: (0.6, 1.8), 2: (0.7, 1.6)}
_MARGIN = (0.8, 1.4)
_ALIKE = 1.5  # entries whose widths differ by less write as many temporary bytes


class Rates:
    """The model of a target. `basis` tells in a sentence what it rests on, of the methods that were asked for."""

    def __init__(self, builds: Sequence[MeasuredBuild] = ()) -> None:
        self._by_method: dict[str, list[MeasuredBuild]] = {}
        for b in builds:
            if b.seconds >= _SHORTEST_S and _moved(b.heap_bytes, b.index_bytes) >= _SMALLEST:
                self._by_method.setdefault(b.method, []).append(b)
        self._asked: dict[str, int] = {}

    def _of(self, method: str) -> list[MeasuredBuild]:
        found = sorted(self._by_method.get(method, ()), key=lambda b: b.age_s)[:NEWEST]
        self._asked[method] = len(found)
        return found

    def seconds(self, shape: IndexShape, size: int) -> tuple[float, float]:
        """The range of a CREATE INDEX CONCURRENTLY without waiting for other transactions."""
        builds = self._of(shape.method)
        if not builds:
            return sizes.build_seconds(shape, size, shape.heap_pages)
        moved = _moved(shape.heap_pages * PAGE, size)
        found = [moved * b.seconds / _moved(b.heap_bytes, b.index_bytes) for b in builds]
        # rows tell what bytes do not: how long the sort takes. Of a partial index most of the time is reading.
        if shape.share > 0.99:
            found += [shape.rows * b.seconds / b.rows for b in builds if b.rows and not b.partial]
        low, high = _MARGINS.get(len(builds), _MARGIN)
        if moved > _FAR * max(_moved(b.heap_bytes, b.index_bytes) for b in builds):
            high *= 2
        return round(max(0.01, min(found) * low), 2), round(max(0.1, max(found) * high), 2)

    def wal_bytes(self, method: str, size: int) -> int:
        """WAL of the build: of a byte of index, the median of what was measured (wal_compression makes it less)."""
        measured = [b.wal_bytes / b.index_bytes for b in self._of(method) if b.wal_bytes and b.index_bytes]
        return int(size * statistics.median(measured)) if measured else sizes.wal_bytes(size)

    def temp_bytes(self, shape: IndexShape, size: int, maintenance_work_mem: int) -> int:
        """Temporary files: none where the model sees none, else what a row took in a build with entries as wide."""
        modelled = sizes.temp_bytes(shape, maintenance_work_mem)
        width = size / max(1.0, shape.rows)
        alike = [
            (abs(b.index_bytes / b.rows - width), b.temp_bytes / b.rows)
            for b in self._of(shape.method)
            if b.rows and b.temp_bytes and 1 / _ALIKE < b.index_bytes / b.rows / max(width, 1e-9) < _ALIKE
        ]
        return int(shape.rows * min(alike)[1]) if modelled and alike else modelled

    @property
    def basis(self) -> str:
        """On what build time, WAL and temporary files rest; empty while nothing was asked."""
        parts = []
        for method, count in self._asked.items():
            if not count:
                parts.append(f"general rates ({method}: no earlier build of this kind in the journal)")
                continue
            builds = self._of(method)
            speeds = [_moved(b.heap_bytes, b.index_bytes) / b.seconds / 1e6 for b in builds]
            rows = [b.rows / b.seconds for b in builds if b.rows]
            text = f"measured here: {count} earlier {method} build{'s' if count > 1 else ''}, the newest "
            text += f"{_age(builds[0].age_s)} ago, {_span(speeds)} MB/s read and written"
            parts.append(text + (f", {_span(rows)} rows/s" if rows else ""))
        return "; ".join(parts)


def _moved(heap: int, index: int) -> int:
    """Bytes that a concurrent build reads (the table, twice) and writes."""
    return 2 * heap + index


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"


def _age(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"
