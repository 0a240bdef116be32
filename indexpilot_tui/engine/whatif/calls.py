"""Names that look like calls in texts of the catalog. Snapshots are read by these, and there is no parser here: a console
that observes reads them to estimate bloat, it has no statement to parse, and the parser costs it 10 MB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from indexpilot_tui.engine.whatif.snapshot import Function, Index, Relation, TableConstraint

_CALL = re.compile(r'(?:"((?:[^"]|"")+)"|([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*))\s*\(')
_MOST_NAMES = 5_000


def names_in(text: str) -> set[str]:
    """Whatever looks like a call in a text of the catalog: more than there are functions does no harm."""
    return {
        quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in _CALL.findall(text)
    }  # fmt: skip


def of_definitions(
    relations: Iterable[Relation], indexes: Iterable[Index], constraints: Iterable[TableConstraint]
) -> set[str]:
    """What definitions may call: indexes, views, checks, defaults, generated columns, partition keys."""
    texts: list[str | None] = [i.definition for i in indexes]
    texts += [c.definition for c in constraints if c.kind == "c"]
    for r in relations:
        texts += [r.view, r.part_key]
        texts += [t for c in r.columns for t in (c.expression, c.default)]
    found = {name for text in texts if text for name in names_in(text)}
    return set(sorted(found)[:_MOST_NAMES])


def called_by_bodies(functions: Sequence[Function]) -> set[str]:
    """Names that the texts of functions call: they have to be read, too."""
    return {name for f in functions if f.body or f.definition for name in names_in(f"{f.body} {f.definition}")}
