"""Indexes that could go: redundant beside another, or never scanned. Whatever enforces or serves something stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import index
from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.advise.model import AdvisedDrop
from indexpilot_tui.engine.whatif.advise.pricing import Unit
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.plan import explain_text, indexes_used, set_path

UNUSED_DAYS = 30.0  # an index used once a month must not look unused
WORSE = 0.01  # share of a statement's cost: beyond it the index is missed


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What the target knows of an index. `window_s`: age of the counters, None when they were never reset."""

    protected: str  # why it must stay; '' when nothing stands on it
    scans: int
    window_s: float | None
    serves_foreign_key: bool


def facts_of(row: Mapping[str, object]) -> IndexFacts:
    """One row of index_facts.sql."""
    reasons = {
        "constrained": "a constraint owns it", "is_unique": "it enforces uniqueness", "exclusion": "it enforces exclusion",
        "replica_identity": "it is the replica identity", "clustered": "CLUSTER uses it",
        "of_partition": "it is part of a partitioned index",
    }  # fmt: skip
    window = row["window_s"]
    return IndexFacts(
        next((text for key, text in reasons.items() if row[key]), ""),
        int(str(row["scans"])), float(str(window)) if window is not None else None, bool(row["serves_foreign_key"]),
    )  # fmt: skip


async def find(
    shadow: ShadowDatabase, units: Sequence[Unit], costs: Sequence[float], facts: Mapping[int, IndexFacts],
    replaced: Mapping[int, str],
) -> tuple[list[AdvisedDrop], int]:  # fmt: skip
    """Drops that no statement of the workload misses, each judged with the advised indexes in place and the drops before
    it gone; and the number of EXPLAINs. `costs` are the units' with the advice; `replaced` maps an index (target OID) to
    the one that does its work. Only with evidence: redundant by structure, or no scan in a long enough window."""
    snapshot = shadow.snapshot
    drops: list[AdvisedDrop] = []
    asked = 0
    hidden: list[int] = []
    try:
        for oid, entry in sorted(snapshot.indexes.items()):
            known = facts.get(oid)
            if known is None or known.protected or oid not in shadow.oids or entry.parent is not None or entry.partitioned:
                continue
            days = known.window_s / 86_400 if known.window_s is not None else None
            # a foreign key's lookup is in no plan; an index that does the same work serves it as well
            unused = known.scans == 0 and days is not None and days >= UNUSED_DAYS and not known.serves_foreign_key
            if oid not in replaced and not unused:
                continue
            await index.switch(shadow, [shadow.oids[oid]], on=False)
            change, missed = 0.0, False
            for unit, cost in zip(units, costs, strict=True):
                if not any(entry.table_oid in {u.table.oid, *_parts(u.table.oid, shadow)} for u in unit.uses):
                    continue
                await set_path(shadow, unit.path)
                plan = await explain_text(shadow, unit.text, generic=unit.generic)
                asked += 1
                difference = float(plan["Total Cost"]) - cost
                change += unit.weight * max(0.0, difference)
                missed = missed or difference > WORSE * max(cost, 1.0)
            if missed:
                await index.switch(shadow, [shadow.oids[oid]], on=True)
                continue
            hidden.append(shadow.oids[oid])
            size = snapshot.sizes[oid].pages * 8192 if oid in snapshot.sizes else 0
            name = clean_line(f"{entry.schema}.{entry.name}")
            reason = (
                f"redundant beside {replaced[oid]}" if oid in replaced
                else f"no scan in {days:,.0f} days on this node, and no statement of the workload would use it"
            )  # fmt: skip
            ddl = f"DROP INDEX CONCURRENTLY {quote(entry.schema, entry.name)}"
            drops.append(AdvisedDrop(ddl, name, size, clean_line(reason), change))
    finally:
        if hidden:
            await index.switch(shadow, hidden, on=True)
    return drops, asked


def _parts(table: int, shadow: ShadowDatabase) -> set[int]:
    return set(shadow.snapshot.members(table))


def still_used(units: Sequence[Unit], name: str) -> list[str]:
    """Keys of the statements whose plan uses an index today."""
    return [u.statement for u in units if name in indexes_used(u.plan)]
