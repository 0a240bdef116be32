"""What a GIN index will hold: the elements of the values that the statistics have, as a sample of all values.

For arrays and tsvector the catalog has the common elements. For jsonb and trigrams it has values only; elements are taken
out of those as jsonb_ops, jsonb_path_ops (jsonb_gin.c) and pg_trgm would.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from indexpilot_tui.engine.whatif.arrays import array_items
from indexpilot_tui.engine.whatif.distinct import numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats

# (number of elements of this class, share of the rows that has one of them, mean width)
Classes = tuple[tuple[float, float, float], ...]
_FREQUENT = 4  # times in the sample from which an element is followed on its own
_UNIQUE = 0.95  # distinct values in the sample of a path from which all are taken as different
_WORDS = re.compile(r"\w+")


def classes(column_type: str, key_type: str, stats: ColumnStats, rows: float) -> Classes:
    """The elements of a column by class; () when nothing can be said. `key_type` is the type of the index's entries."""
    if stats.mce is not None and stats.mcef is not None:
        return _known(stats, rows, words=column_type == "tsvector")
    values = [*array_items(stats.mcv), *array_items(stats.histogram)]
    if len(values) < 20:
        return ()
    if column_type == "jsonb":
        return _json(values, rows, paths=key_type == "integer")
    if key_type == "integer":
        return _trigrams(values, rows)
    return ()


def _known(stats: ColumnStats, rows: float, *, words: bool) -> Classes:
    items = array_items(stats.mce)
    frequencies = numbers(stats.mcef)[: len(items)]
    found = [(1.0, f, len(i.encode()) + 1.0) for i, f in zip(items, frequencies, strict=False)]
    counts = numbers(stats.elem_counts)
    # the mean number of distinct elements closes the histogram (pg_statistic.h, DECHIST); tsvector has none; 8 bytes of its
    # width are header, and each lexeme has an entry of 4, itself, and a position with its count, aligned (ts_type.h)
    mean = counts[-1] if counts else 0.0
    if words and items:
        mean = max(0.0, stats.avg_width - 8) / (8 + 0.5 + sum(len(i.encode()) for i in items) / len(items))
    rest = max(0.0, mean - sum(frequencies))
    if rest > 0.01 and frequencies:  # those that are not listed are rarer than the rarest listed
        found.append((rest / max(min(frequencies) / 2, 1.0 / rows), rest, 8.0))
    return tuple(found)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _json(texts: list[str], rows: float, *, paths: bool) -> Classes:
    by_path: dict[tuple[str, ...], list[str]] = {}
    sampled = 0
    for text in texts:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        sampled += 1
        for path, leaf in _leaves(value, ()):
            by_path.setdefault(path, []).append(leaf)
    if not sampled:
        return ()
    found = [(_kinds(leaves, rows * len(leaves) / sampled), len(leaves) / sampled, 4.0 if paths else _mean(leaves) + 2)
             for leaves in by_path.values()]  # fmt: skip
    if not paths:  # every key is an entry as well
        keys = Counter(key for path, leaves in by_path.items() for key in path for _ in leaves)
        found += [(1.0, min(1.0, count / sampled), len(key) + 2.0) for key, count in keys.items()]
    return tuple(found)


def _mean(texts: list[str]) -> float:
    return sum(len(t.encode("utf-8", "surrogatepass")) for t in texts) / len(texts)


def _kinds(values: list[str], occurrences: float) -> float:
    """Distinct values among all `occurrences`, from a sample of them: Chao's estimate (1984) while some repeat, else all are
    taken as different, but no more than there are integers in their range."""
    counts = Counter(values)
    once, twice = sum(c == 1 for c in counts.values()), sum(c == 2 for c in counts.values())
    kinds = len(counts) + once * once / (2 * max(1, twice))
    if len(counts) > _UNIQUE * len(values) and len(values) > 10:
        kinds = occurrences
        try:
            whole = [int(v) for v in counts]
        except ValueError:
            return kinds
        kinds = min(kinds, (max(whole) - min(whole)) * (len(whole) + 1) / max(1, len(whole) - 1) + 1)
    return max(1.0, min(kinds, occurrences))


def _trigrams(texts: list[str], rows: float) -> Classes:
    counts: Counter[str] = Counter()
    for text in texts:
        found: set[str] = set()
        for word in _WORDS.findall(text.lower()):
            padded = f"  {word} "
            found |= {padded[n : n + 3] for n in range(len(padded) - 2)}
        counts.update(found)
    frequent = [(1.0, min(1.0, c / len(texts)), 4.0) for c in counts.values() if c >= _FREQUENT]
    rare = [c for c in counts.values() if c < _FREQUENT]
    if rare:
        once, twice = rare.count(1), rare.count(2)
        kinds = len(rare) + once * once / (2 * max(1, twice))
        frequent.append((min(kinds, rows * sum(rare)), sum(rare) / len(texts), 4.0))
    return tuple(frequent)
