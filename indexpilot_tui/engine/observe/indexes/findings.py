"""From the facts of the catalog to findings: what, how sure, what it would save and risk, and the one statement that would
fix it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indexpilot_tui.engine.observe.indexes.bloat import Bloat, bloated
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.foreign_keys import missing, supporting
from indexpilot_tui.engine.observe.indexes.redundancy import repeated_constraints, superfluous
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.indexes.states import state
from indexpilot_tui.engine.observe.indexes.structure import redundant, shape_of
from indexpilot_tui.engine.observe.indexes.unused import unused
from indexpilot_tui.engine.observe.model import HealthFinding

_ORDER = {"critical": 0, "warning": 1, "info": 2}


def findings_of(
    indexes: Sequence[IndexFacts],
    foreign_keys: Sequence[Mapping[str, Any]],
    situation: Situation,
    bloat: Mapping[int, Bloat] | None = None,
) -> tuple[HealthFinding, ...]:
    """All findings, the worst first. `bloat` by oid, where it was measured."""
    facts = {index.oid: index for index in indexes}
    shapes = {index.oid: shape_of(index, situation.twins) for index in indexes}
    found = [finding for index in indexes for finding in state(index, situation)]
    gone: set[int] = set()
    relied_on: set[int] = set()  # what takes over the scans of a superfluous index is not unused
    for cover in redundant(s for s in shapes.values() if not s.facts.busy or s.facts.valid):
        out, kept = cover.gone.facts, cover.kept.facts
        gone.add(out.oid)
        if situation.scanned(out) is not False or out.oid in relied_on:
            relied_on.add(kept.oid)
        found.append(superfluous(cover, situation))
    found += repeated_constraints(shapes.values(), situation)
    supporting_keys = supporting([s for s in shapes.values() if s.oid not in gone], foreign_keys, situation)
    for index in indexes:
        if index.oid not in gone and index.oid not in supporting_keys and index.oid not in relied_on:
            found += unused(shapes[index.oid], situation)
    found += _missing(foreign_keys, shapes.values(), indexes)
    for oid, measured in (bloat or {}).items():
        if oid in facts and oid not in gone:
            found += bloated(facts[oid], measured)
    found.sort(key=lambda f: (_ORDER[f.severity], f.kind.value, f.table, f.index))
    return tuple(found)


def _missing(
    foreign_keys: Sequence[Mapping[str, Any]], shapes: Iterable[Any], indexes: Sequence[IndexFacts]
) -> Iterable[HealthFinding]:
    by_table: dict[int, list[Any]] = {}
    for shape in shapes:
        by_table.setdefault(shape.facts.table_oid, []).append(shape)
    taken = {(index.schema, index.name) for index in indexes}
    for key in foreign_keys:
        yield from missing(key, by_table.get(key["table_oid"], ()), taken)
